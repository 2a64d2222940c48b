"""A run in parts that know nothing of one another: for clusters that only have a batch queue.

Each shard scans its share of the batches and leaves its scans in a folder; `merge` puts them
together and writes the run. The content is that of a run in one piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float64, Int64
from sqlalchemy.exc import SQLAlchemyError

from indexer import memory
from indexer.config import Execution, IndexConfig
from indexer.errors import NeurariumError
from indexer.reporter import Reporter
from indexer.run.checkpoint import RunFolder
from indexer.run.index import Clock, Outcome, write
from indexer.run.passes import has_sample, load_scan, positions_of, scan_slices
from indexer.run.plan import describe_plan, make_plan
from indexer.scan.job import Job, ask, load, prepare
from indexer.scan.state import Scan
from indexer.store.database import check_writable, open_store, shown, unusable
from indexer.store.runs import find_scan

SAMPLE_COST = 1.25
"""A position of the sample takes about so many times as long as one of the rest."""


@dataclass(frozen=True)
class Shard:
    """One of several shares of a run."""

    number: int
    """From 1 on."""
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `2/8`. Raises NeurariumError."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        number, count = (int(part) for part in found.groups()) if found else (0, 0)
        if not 1 <= number <= count:
            raise NeurariumError(
                f"--shard {text} cannot be understood: write 2/8 for the second of eight."
            )
        return cls(number, count)

    @property
    def folder_name(self) -> str:
        """Where in the run's folder this shard keeps its own."""
        return f"shard-{self.number}-of-{self.count}"


def scan_shard(
    config: IndexConfig, shard: Shard, cache_dir: Path, reporter: Reporter, execution: Execution
) -> Path:
    """Scan a shard's share and leave its scans in a folder of the run's, which is returned.

    Raises `Stopped`, NeurariumError.
    """
    if execution.state is None:
        raise NeurariumError(
            "A shard needs --state FOLDER, one that all shards and `neurarium merge` can see."
        )
    question = ask(config)
    folder = RunFolder(execution.state / shard.folder_name)
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.path / "lock", timeout=0):
            if execution.restart:
                folder.remove()
            folder.check_settings(config.as_dict())
            text = prepare(question, cache_dir, reporter)
            job = load(question, text, reporter)
            plan = make_plan(job.name, job.shape, job.corpus)
            reporter.say(describe_plan(plan, config, job.model, job.corpus, str(execution.state)))
            mine = share(job, shard)
            scan_slices(job, folder, execution, reporter, mine)
    except Timeout:
        raise NeurariumError(
            f"Another process is scanning shard {shard.number} of {shard.count} in "
            f"{execution.state}: wait for it to end, or stop it."
        ) from None
    return execution.state


def share(job: Job, shard: Shard) -> list[int]:
    """The batches of a shard: of about equal cost, one after the other, the sample in the first."""
    sampled = np.array([plan.part != "rest" for plan in job.plans])
    cost = positions_of(job) * np.where(sampled, SAMPLE_COST, 1.0)
    return np.flatnonzero(_owners(cost, int(sampled.sum()), shard.count) == shard.number).tolist()


def _owners(
    cost: Float64[np.ndarray, " batches"], sampled: int, count: int
) -> Int64[np.ndarray, " batches"]:
    """Which shard, from 1 on, each batch belongs to; the first `sampled` belong to the first."""
    target, first = cost.sum() / count, cost[:sampled].sum()
    owners = np.ones(len(cost), np.int64)
    if count == 1:
        return owners
    middle = np.cumsum(cost[sampled:]) - cost[sampled:] / 2
    if first > target:  # the sample alone is more than a share: the others take the rest
        target = cost[sampled:].sum() / (count - 1)
        first, before = 0.0, 1
    else:
        before = 0
    owners[sampled:] = 1 + before + (first + middle) // max(target, 1e-9)
    return np.minimum(owners, count)


def merge(
    folder: Path, database_url: str, cache_dir: Path, reporter: Reporter, execution: Execution
) -> Outcome:
    """Put all shards' scans together and write the run. The folder stays: it can be deleted then.

    Raises NeurariumError where a shard is missing, not finished or made otherwise.
    """
    folders = _shards(folder)
    facts = folders[0].facts
    config = IndexConfig(**facts.settings)
    for other in folders[1:]:
        other.check_settings(facts.settings)
        other.check_found(facts.found)
        if other.facts.slices != facts.slices:
            raise NeurariumError(
                f"{folders[0].path.name} and {other.path.name} were scanned in other slices of "
                "the layers: index all shards with the same --memory."
            )
    clock = Clock()
    question = ask(config)
    engine = open_store(database_url, create=True)
    try:
        check_writable(engine)
        text = prepare(question, cache_dir, reporter)
        clock.lap("prepare")
        job = load(question, text, reporter)
        for shard in folders:
            shard.check_found(job.facts())
        clock.lap("load")
        run_id = find_scan(engine, facts.id)
        if run_id is None:
            scans = _merged(job, folders, facts.slices)
            clock.lap("scan")
            run_id = write(engine, job, facts.id, scans, clock, reporter)
        plan = make_plan(job.name, job.shape, job.corpus)
        return Outcome(run_id, job.name, plan, clock.seconds, memory.peak(), carried_on=True)
    except SQLAlchemyError as error:
        raise NeurariumError(unusable(error, shown(engine.url))) from error
    finally:
        engine.dispose()


def _shards(folder: Path) -> list[RunFolder]:
    """All shards of a run, in order; none may be missing."""
    found = {path.name: path for path in folder.glob("shard-*-of-*") if path.is_dir()}
    counts = {name.rpartition("-")[2] for name in found}
    if len(counts) > 1:
        raise NeurariumError(
            f"{folder} holds shards of several runs, of {' and of '.join(sorted(counts))} each: "
            "take away those that do not belong."
        )
    if not counts or not (total := counts.pop()).isdigit():
        raise NeurariumError(
            f"{folder} holds no shards of one run: index them with --shard and --state {folder}."
        )
    names = [Shard(number, int(total)).folder_name for number in range(1, int(total) + 1)]
    missing = [name for name in names if not RunFolder(folder / name).exists]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise NeurariumError(f"{missing[0]}{more} is not in {folder} yet: index it first.")
    return [RunFolder(folder / name) for name in names]


def _merged(
    job: Job, folders: list[RunFolder], slices: tuple[tuple[int, int], ...]
) -> Iterator[Scan]:
    """The scans of all slices, each put together from all shards'."""
    shards = [Shard(number, len(folders)) for number in range(1, len(folders) + 1)]
    shares = [share(job, shard) for shard in shards]
    for first, end in slices:
        shape = job.shape.slice(first, end)
        whole: Scan | None = None
        for folder, mine in zip(folders, shares, strict=True):
            scan, done = load_scan(job, folder, shape, with_sample=has_sample(job, mine))
            if not done[mine].all():
                raise NeurariumError(
                    f"{folder.path.name} is not finished: run its command again, it carries on."
                )
            if whole is None:
                whole = scan
            else:
                whole.merge(scan)
        assert whole is not None  # there is a shard
        yield whole
