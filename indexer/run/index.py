"""One indexing run from top to bottom: corpus → contexts → batches → model → scan → store.

If it is killed or stopped at any moment, the same command resumes from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from indexer import memory
from indexer.config import Execution, IndexConfig
from indexer.errors import NeurariumError
from indexer.models.loaded import LoadedModel
from indexer.reporter import Reporter, waiting
from indexer.run import state_folder
from indexer.run.before import Before, before_scan
from indexer.run.checkpoint import RunFolder
from indexer.run.dictionaries import check_dictionaries
from indexer.run.notices import few_tokens, left_over, namesakes
from indexer.run.pairs import Pairs, scan_pairs
from indexer.run.passes import sample_peaks, scan_slices
from indexer.run.plan import Plan, check_disk, describe_plan, make_plan
from indexer.run.quality import Quality
from indexer.run.together import Measured, Units, fits_at_once, one_pass
from indexer.run.write import Clock, wait_for_writing, write
from indexer.scan.choice import ModelChoice, copied, resolve
from indexer.scan.job import Job, load, load_beside, prepare
from indexer.store.database import (
    identity,
    open_store,
    without_password,
    writing,
)
from indexer.store.failures import unusable
from indexer.store.runs import find_scan
from indexer.workers.needed import check_workers, uses_ray


@dataclass(frozen=True)
class Outcome:
    """A run that is in the store."""

    run_id: int
    model: str
    set_name: str
    noun: str
    plan: Plan
    seconds: dict[str, float]
    """Wall time of each stage."""
    peak_memory: int
    """The process's largest resident size so far, in bytes."""
    resumed: bool = False
    """Whether part of it was scanned earlier, by another process."""
    first_layer: int = 0
    """The first layer that has units."""
    warnings: tuple[str, ...] = ()
    """Lines worth repeating at the end: the first time may be hours ago."""


def index(
    config: IndexConfig,
    database_url: str,
    cache_dir: Path,
    reporter: Reporter,
    execution: Execution | None = None,
) -> Outcome:
    """Index a model: everything from its name to rows in the store.

    Raises `Stopped` when the user stops it, after saving a checkpoint, and NeurariumError for every
    problem the user can solve. In both cases nothing is written to the store.
    """
    return index_choice(resolve(config), database_url, cache_dir, reporter, execution)


def index_choice(
    choice: ModelChoice,
    database_url: str,
    cache_dir: Path,
    reporter: Reporter,
    execution: Execution | None = None,
) -> Outcome:
    """As `index`, of a choice that is made. Raises as `index`."""
    (outcome,) = index_sets([choice], database_url, cache_dir, reporter, execution)
    return outcome


def index_sets(
    choices: Sequence[ModelChoice],
    database_url: str,
    cache_dir: Path,
    reporter: Reporter,
    execution: Execution | None = None,
) -> list[Outcome]:
    """As `index`, of several sets of units of one model over one corpus: a run each, captured in
    one forward pass where they can be. Raises as `index`; runs that are in the store by then stay,
    and are not made again."""
    execution = execution or Execution()
    with waiting(reporter.say, "the database"):
        engine = open_store(database_url, create=True)
    try:
        wait_for_writing(engine, reporter)
        with ExitStack() as locks:
            begun: list[_Run] = []
            loaded: LoadedModel | None = None
            folders = [execution.state or _folder(cache_dir, engine, choice) for choice in choices]
            if len(set(folders)) < len(folders):
                raise NeurariumError("A set of units is named twice: name each once.")
            check_workers(execution)
            for choice, path in zip(choices, folders, strict=True):
                folder = RunFolder(path)
                lock = writing(engine, f"run in {folder.path.resolve()}", cache_dir / "locks")
                locks.enter_context(lock)
                run = _begin(choice, execution, folder, engine, cache_dir, reporter, loaded)
                begun.append(run)
                if not run.job.model.units.own_pass:
                    loaded = loaded or run.job.model
            _scan_together([run for run in begun if run.id is None], execution, reporter)
            outcomes = [_finish(run, execution, engine, reporter) for run in begun]
            for run in begun:  # only now: a run that is in the store is known by its folder
                run.folder.remove()
            return outcomes
    except SQLAlchemyError as error:
        raise NeurariumError(unusable(error, without_password(engine.url))) from error
    finally:
        engine.dispose()


def _folder(cache_dir: Path, engine: Engine, choice: ModelChoice) -> Path:
    """Where the checkpoints are of the run of one set of units, of one model name, into one
    database."""
    key = f"{identity(engine.url)}\n{choice.name}"
    units = [choice.config.set_name, choice.config.asked().units()]
    if any(units):
        key += f"\n{json.dumps(units)}"
    digest = hashlib.blake2b(key.encode(), digest_size=6)
    return cache_dir / "runs" / f"{choice.name}-{digest.hexdigest()}"


@dataclass
class _Run:
    """A run before its scan."""

    job: Job
    folder: RunFolder
    plan: Plan
    before: Before
    qualities: tuple[Quality, ...]
    clock: Clock
    doubts: list[str]
    resumed: bool
    id: int | None
    """In the store, where the process was killed after the run was written."""


def _begin(
    choice: ModelChoice,
    execution: Execution,
    folder: RunFolder,
    engine: Engine,
    cache_dir: Path,
    reporter: Reporter,
    loaded: LoadedModel | None,
) -> _Run:
    """Everything before the scan. `loaded` is the model, if another run has loaded it."""
    clock = Clock()
    state_folder.check_writable(folder.path)
    if execution.restart:
        folder.remove()
    folder.check_settings(choice.config.as_dict())
    resumed = folder.exists
    text = prepare(choice, cache_dir, reporter)
    clock.lap("prepare")
    job = load(choice, text, reporter) if loaded is None else load_beside(choice, text, loaded)
    if loaded is not None and job.model.units.own_pass:
        reporter.say(
            f"Patterns of {job.name} need another way of computing attention: its "
            f"{job.model.units.noun}s have a pass of their own."
        )
        job = load(copied(choice), text, reporter)
    clock.lap("load")
    plan = make_plan(job)
    check_disk(plan, engine, folder.path)
    reporter.say(
        describe_plan(plan, job.config, job.model, job.corpus, without_password(engine.url))
    )
    doubts: list[str] = []
    if loaded is None:  # the same for all sets of units
        doubts = left_over(job.model.unused_weights)
        for line in [*few_tokens(job.corpus.included_tokens), *doubts]:
            reporter.say(line)
    for line in namesakes(engine, job.name, job.model.source.model_id, job.set_name):
        reporter.say(line)
    folder.check_inputs(job.facts())
    before = before_scan(job.model, reporter)
    qualities = check_dictionaries(job, reporter)
    run_id = find_scan(engine, folder.facts.id) if folder.exists else None
    return _Run(job, folder, plan, before, qualities, clock, doubts, resumed, run_id)


def _scan_together(runs: list[_Run], execution: Execution, reporter: Reporter) -> None:
    """Measure what can share a forward pass in one pass over the corpus; the rest is left to the
    passes of each run."""
    sharing = [run for run in runs if not run.job.model.units.own_pass]
    for group in (sharing, *([run] for run in runs if run not in sharing)):
        parts = sum(1 + run.job.model.units.has_pairs for run in group)
        if parts < 2:
            continue
        if uses_ray(execution):
            if len(group) > 1:
                reporter.say("With workers, each set of units has a pass of its own")
            continue
        if not fits_at_once([(run.job, run.folder, run.plan) for run in group], execution):
            reporter.say("Memory does not hold the state of all at once: each has its own pass")
            continue
        measured: list[Measured] = []
        for run in group:
            measured.append(Units(run.job, run.folder))
            if run.job.model.units.has_pairs:
                measured.append(Pairs(run.job, run.folder))
        one_pass(group[0].job, measured, "Scanning", execution, reporter)
        for run in group:
            run.clock.lap("scan")


def _finish(run: _Run, execution: Execution, engine: Engine, reporter: Reporter) -> Outcome:
    """Scan what is not scanned yet, and write the run."""
    job, run_id = run.job, run.id
    run.clock.start()
    if run_id is None:
        scans = scan_slices(job, run.folder, execution, reporter)
        run.clock.lap("scan")
        run_id = write(
            engine,
            job,
            run.folder.facts.id,
            scans,
            run.before,
            run.clock,
            reporter,
            run.qualities,
            lambda: scan_pairs(job, run.folder, execution, reporter),
            lambda layer: sample_peaks(run.folder, layer),
        )
    return Outcome(
        run_id,
        job.name,
        job.set_name,
        job.model.units.noun,
        run.plan,
        run.clock.seconds,
        memory.peak(),
        run.resumed,
        first_layer(job),
        tuple(run.doubts),
    )


def first_layer(job: Job) -> int:
    """The first layer that has units."""
    return next(layer for layer, width in enumerate(job.model.units.widths) if width)
