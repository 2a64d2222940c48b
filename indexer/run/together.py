"""One pass over the corpus for all that is measured of a model: the units of several sets, and
pairs of positions.

The pass fills the checkpoint of each run. Each run then goes on from there as if it had been
stopped after its last batch, so that its content is what it is when it is indexed alone.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol

import numpy as np
import torch

from indexer import memory
from indexer.config import Execution
from indexer.corpus.batches import Batch, fill_batch
from indexer.reporter import Reporter
from indexer.run.checkpoint import RunFacts, RunFolder
from indexer.run.passes import Done, load_scan, positions_of
from indexer.run.plan import Plan
from indexer.run.stopping import Stopped, stop_requests
from indexer.scan.job import Job
from indexer.scan.loop import measuring
from indexer.scan.slices import Slice, allowed_bytes
from indexer.workers.crew import memory_for


class Measured(Protocol):
    """Something that is measured during a pass, and its checkpoint."""

    @property
    def done(self) -> Done:
        """The batches that are in it."""
        ...

    def hooks(self, batch: Batch) -> AbstractContextManager[None]:
        """Measure a batch: open during its forward pass."""
        ...

    def save(self) -> None:
        """Write the checkpoint. Raises OSError."""
        ...


class Units:
    """The activations of all units of a run."""

    def __init__(self, job: Job, folder: RunFolder) -> None:
        self.job, self.folder = job, folder
        self._part = _whole(job)
        self.scan, self.done = load_scan(job, folder, self._part)

    @contextmanager
    def hooks(self, batch: Batch) -> Iterator[None]:
        """Measure a batch: open during its forward pass."""
        model = self.job.model
        with (
            measuring(model.device, batch, self.scan) as measure,
            model.capturing(batch.tokens.shape, measure),
        ):
            yield

    def save(self) -> None:
        """Write the checkpoint. Raises OSError."""
        self.folder.save(self._part.name, self.scan, self.done)


def one_pass(
    job: Job, measured: Sequence[Measured], title: str, execution: Execution, reporter: Reporter
) -> None:
    """Run the model over the batches that are not done, in this process; `job` is any of those that
    share the model and the batches.

    Raises `Stopped` when the user stops it, after saving all checkpoints, and NeurariumError.
    """
    if all(each.done.all() for each in measured):
        return
    with checkpoints(job, measured, title, execution, reporter) as (todo, after):
        scan_here(job, measured, todo, after)


def scan_here(
    job: Job, measured: Sequence[Measured], todo: Sequence[int], after: Callable[..., None]
) -> None:
    """Run the model over batches, in this process; `after` is called with each when it is done.
    Raises `NeurariumError` when memory runs out."""
    given_back = time.monotonic()
    for number in todo:
        batch = fill_batch(job.plans[number], job.corpus, padding_id=0)
        waiting = [each for each in measured if not each.done[number]]
        tokens, attention = torch.from_numpy(batch.tokens), torch.from_numpy(batch.attention)
        job.model.trunk.run_hooked(tokens, attention, _all(waiting, batch))
        if time.monotonic() - given_back > 1:
            memory.give_back()
            given_back = time.monotonic()
        after(number)


@contextmanager
def checkpoints(
    job: Job, measured: Sequence[Measured], title: str, execution: Execution, reporter: Reporter
) -> Iterator[tuple[list[int], Callable[..., None]]]:
    """The batches that are not done, and what is to be called with those that are: it marks them,
    reports, saves a checkpoint from time to time, and raises `Stopped` when the user stops. All is
    saved at the end."""
    positions = positions_of(job)
    done = np.logical_and.reduce([each.done for each in measured])
    total, before = int(positions.sum()), int(positions[done].sum())
    if before and not done.all():
        reporter.say(f"{title}: resuming after {before:,} of {total:,} tokens")
    progress = reporter.stage(title, total, "tokens")
    saved = time.monotonic()
    with stop_requests() as stop:

        def after(*numbers: int) -> None:
            nonlocal saved
            for each in measured:
                each.done[list(numbers)] = True
            done[list(numbers)] = True
            now = int(positions[done].sum())
            progress(now)
            if stop.is_set():
                _save(measured)
                raise Stopped(
                    f"Stopped after {now:,} of {total:,} tokens: the same command resumes from "
                    "there, --restart starts over."
                )
            if time.monotonic() - saved > execution.checkpoint_seconds:
                try:
                    _save(measured)
                except OSError as error:
                    reporter.say(
                        f"No checkpoint could be written ({error.strerror or error}): the previous "
                        "one stays, and the pass goes on."
                    )
                saved = time.monotonic()

        yield np.flatnonzero(~done).tolist(), after
    _save(measured)


def _save(measured: Sequence[Measured]) -> None:
    for each in measured:
        each.save()


@contextmanager
def _all(measured: Sequence[Measured], batch: Batch) -> Iterator[None]:
    with ExitStack() as opened:
        for each in measured:
            opened.enter_context(each.hooks(batch))
        yield


def fits_at_once(runs: Sequence[tuple[Job, RunFolder, Plan]], execution: Execution) -> bool:
    """Whether memory holds the state of all layers of all runs; creates the folders of those that
    have none then. Raises NeurariumError."""
    begun = [folder for _, folder, _ in runs if folder.exists]
    if any(len(folder.facts.slices) > 1 for folder in begun):
        return False
    allowed = allowed_bytes(memory_for(runs[0][0], execution))
    if allowed is not None and sum(plan.scan_bytes for *_, plan in runs) > allowed:
        return False
    for job, folder, _ in runs:
        if not folder.exists:
            facts = RunFacts(uuid.uuid4().hex, job.config.as_dict(), job.facts(), (_whole(job),))
            folder.begin(facts)
    return True


def _whole(job: Job) -> Slice:
    """All layers of a run."""
    return Slice(0, len(job.shape.widths))
