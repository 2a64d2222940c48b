"""A run split into shards that do not communicate: for clusters that only have a batch queue.

Each shard scans its share of the batches and leaves its scans in a folder; `merge` combines them
and writes the run. Its content equals that of a run that was not split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float64, Int64
from sqlalchemy.exc import SQLAlchemyError

from indexer import memory
from indexer.config import Execution, IndexConfig
from indexer.errors import NeurariumError
from indexer.reporter import Reporter, waiting
from indexer.run import state_folder
from indexer.run.before import before_scan
from indexer.run.checkpoint import RunFolder
from indexer.run.dictionaries import check_dictionaries
from indexer.run.index import Outcome, first_layer
from indexer.run.notices import left_over
from indexer.run.pairs import scan_pairs
from indexer.run.passes import has_sample, load_scan, positions_of, sample_peaks, scan_slices
from indexer.run.plan import describe_plan, make_plan
from indexer.run.shard import Shard, count_of, shared_folder
from indexer.run.write import Clock, wait_for_writing, write
from indexer.scan.choice import resolve
from indexer.scan.job import Job, load, prepare
from indexer.scan.slices import Slice
from indexer.scan.state import Scan
from indexer.store.database import open_store, without_password
from indexer.store.failures import unusable
from indexer.store.runs import find_scan

SAMPLE_COST = 1.25
"""The time for a position of the sample, as a multiple of the time for one of the rest."""


def scan_shard(
    config: IndexConfig, shard: Shard, cache_dir: Path, reporter: Reporter, execution: Execution
) -> Path:
    """Scan a shard's share of the batches; returns the run's folder, which holds the scans.

    Raises `Stopped`, NeurariumError.
    """
    state = shared_folder(execution.state)
    state_folder.check_writable(state)
    choice = resolve(config)
    folder = RunFolder(state / shard.folder_name)
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.path / "lock", timeout=0):
            if execution.restart:
                folder.remove()
            folder.check_settings(choice.config.as_dict())
            text = prepare(choice, cache_dir, reporter)
            job = load(choice, text, reporter)
            plan = make_plan(job)
            reporter.say(describe_plan(plan, job.config, job.model, job.corpus, str(state)))
            for line in left_over(job.model.unused_weights):
                reporter.say(line)
            before_scan(job.model, reporter)
            check_dictionaries(job, reporter)
            mine = share(job, shard)
            scan_slices(job, folder, execution, reporter, mine)
    except Timeout:
        raise NeurariumError(
            f"Another process is scanning shard {shard.number} of {shard.count} in "
            f"{state}: wait for it to end, or stop it."
        ) from None
    return state


def share(job: Job, shard: Shard) -> list[int]:
    """The batches of a shard: consecutive, of about equal cost, the whole sample in the first."""
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
    if first > target:  # the sample alone is more than a share: the other shards take the rest
        target = cost[sampled:].sum() / (count - 1)
        first, before = 0.0, 1
    else:
        before = 0
    owners[sampled:] = 1 + before + (first + middle) // max(target, 1e-9)
    return np.minimum(owners, count)


def merge(
    folder: Path, database_url: str, cache_dir: Path, reporter: Reporter, execution: Execution
) -> Outcome:
    """Merge all shards' scans and write the run. The folder stays and may be deleted afterwards.

    Raises NeurariumError if a shard is missing, unfinished, or has other settings.
    """
    folders = _shards(folder)
    facts = folders[0].facts
    config = IndexConfig(**facts.settings)
    for other in folders[1:]:
        other.check_settings(facts.settings)
        other.check_inputs(facts.inputs)
        if other.facts.slices != facts.slices:
            raise NeurariumError(
                f"{folders[0].path.name} and {other.path.name} were scanned in different slices: "
                "index all shards with the same --memory."
            )
    clock = Clock()
    choice = resolve(config)
    with waiting(reporter.say, "the database"):
        engine = open_store(database_url, create=True)
    try:
        wait_for_writing(engine, reporter)
        text = prepare(choice, cache_dir, reporter)
        clock.lap("prepare")
        job = load(choice, text, reporter)
        for shard in folders:
            shard.check_inputs(job.facts())
        clock.lap("load")
        run_id = find_scan(engine, facts.id)
        if run_id is None:
            before = before_scan(job.model, reporter)
            scans = _merged(job, folders, facts.slices)
            clock.lap("scan")
            qualities = check_dictionaries(job, reporter)
            run_id = write(
                engine,
                job,
                facts.id,
                scans,
                before,
                clock,
                reporter,
                qualities,
                lambda: scan_pairs(job, None, execution, reporter),
                lambda layer: sample_peaks(folders[0], layer),  # the first shard has the sample
            )
        plan = make_plan(job)
        return Outcome(
            run_id,
            job.name,
            job.set_name,
            job.model.units.noun,
            plan,
            clock.seconds,
            memory.peak(),
            resumed=True,
            first_layer=first_layer(job),
        )
    except SQLAlchemyError as error:
        raise NeurariumError(unusable(error, without_password(engine.url))) from error
    finally:
        engine.dispose()


def _shards(folder: Path) -> list[RunFolder]:
    """The folders of all shards of a run, in order. Raises NeurariumError if one is missing."""
    total = count_of(folder)
    names = [Shard(number, total).folder_name for number in range(1, total + 1)]
    missing = [name for name in names if not RunFolder(folder / name).exists]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise NeurariumError(f"{missing[0]}{more} is not in {folder} yet: index it first.")
    return [RunFolder(folder / name) for name in names]


def _merged(job: Job, folders: list[RunFolder], slices: tuple[Slice, ...]) -> Iterator[Scan]:
    """The scans of all slices, each merged from all shards."""
    shards = [Shard(number, len(folders)) for number in range(1, len(folders) + 1)]
    shares = [share(job, shard) for shard in shards]
    for part in slices:
        merged: Scan | None = None
        for folder, mine in zip(folders, shares, strict=True):
            scan, done = load_scan(job, folder, part, with_sample=has_sample(job, mine))
            if not done[mine].all():
                raise NeurariumError(
                    f"{folder.path.name} is not finished: run its command again to resume it."
                )
            if merged is None:
                merged = scan
            else:
                merged.merge(scan)
        assert merged is not None  # there is at least one shard
        yield merged
