"""The passes over the corpus that make a run's scans: one for each slice of its layers, each
carried on from its last checkpoint, and kept until the run is written.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int64

from indexer import memory
from indexer.config import Execution
from indexer.corpus.batches import fill_batch
from indexer.memory import readable_bytes
from indexer.reporter import Reporter
from indexer.run.checkpoint import RunFacts, RunFolder
from indexer.run.stopping import Stopped, stop_requests
from indexer.scan.job import Job
from indexer.scan.loop import scan_batches
from indexer.scan.shape import ScanShape
from indexer.scan.slices import choose_slices
from indexer.scan.state import Scan
from indexer.workers.ray import Workers, many_workers, memory_for

MEMORY_MARGIN = 1.3
"""A scan may take so many times what its state takes."""
MEMORY_NOISE = 1 << 28
"""What allocators and one layer's sums may take beside that."""

Done = Bool[np.ndarray, " batches"]


def scan_slices(
    job: Job,
    folder: RunFolder,
    execution: Execution,
    reporter: Reporter,
    todo: Sequence[int] | None = None,
) -> Iterator[Scan]:
    """Scan all layers, in as many passes as memory wants, and then give the finished scans.

    Args:
        job: what is to be scanned.
        folder: where the run's checkpoints are, or will be.
        execution: how it is to be carried out.
        reporter: where to say how it goes.
        todo: the batches to scan, a shard's share of them. None: all.

    Raises `Stopped` if the user asks for an end, when a checkpoint is kept.
    """
    if folder.exists:
        folder.check_found(job.facts())
        slices = folder.facts.slices
    else:
        slices = choose_slices(job.shape, memory_for(job, execution))
        facts = RunFacts(uuid.uuid4().hex, job.config.as_dict(), job.facts(), slices)
        folder.begin(facts)
    if len(slices) > 1:
        reporter.say(f"The memory holds the state of some layers at a time: {len(slices)} passes")
    batches = range(len(job.plans)) if todo is None else todo
    before = _forward_peak(job)
    only: Scan | None = None
    with many_workers(job, execution, reporter) as workers:
        for number, (first, end) in enumerate(slices):
            title = "Scanning" if len(slices) == 1 else f"Pass {number + 1}"
            shape = job.shape.slice(first, end)
            only = _Pass(job, shape, folder, execution, reporter, title, batches).run(workers)
            if workers is None:  # what is on its way from them is not in what was expected
                _check_memory(memory.peak() - before, shape, reporter)
    assert only is not None  # a model has layers
    return iter([only]) if len(slices) == 1 else _finished(job, folder)


def _forward_peak(job: Job) -> int:
    """The memory of this process with the model and its forward pass: of the first layer and the
    first batch, which is as large as any. Counted by `memory.peak` from here on."""
    batch = fill_batch(job.plans[0], job.corpus, padding_id=0)
    tokens, attention = torch.from_numpy(batch.tokens), torch.from_numpy(batch.attention)
    memory.begin_peak()
    job.model.capture(tokens, attention, lambda *_: None, range(1))
    return memory.peak()


def _check_memory(used: int, shape: ScanShape, reporter: Reporter) -> None:
    """Say so where a scan took much more than the user was told."""
    expected = shape.bytes_held()
    if used > MEMORY_MARGIN * expected + MEMORY_NOISE:
        reporter.say(
            f"The scan took {readable_bytes(used)} of memory beside the model, more than the "
            f"{readable_bytes(expected)} expected"
        )


def _finished(job: Job, folder: RunFolder) -> Iterator[Scan]:
    """The scans of all slices, one at a time."""
    for first, end in folder.facts.slices:
        yield load_scan(job, folder, job.shape.slice(first, end))[0]


def load_scan(
    job: Job, folder: RunFolder, shape: ScanShape, *, with_sample: bool = True
) -> tuple[Scan, Done]:
    """A slice's scan as far as it was kept, and the batches in it. Raises NeurariumError."""
    done = np.zeros(len(job.plans), np.bool_)
    scan = Scan(shape, job.corpus.source_index, with_sample=with_sample)
    folder.load(slice_name(shape), scan, done)
    return scan, done


def slice_name(shape: ScanShape) -> str:
    """What a slice's file is called."""
    return f"layers-{shape.layers[0]}-{shape.layers[-1]}"


def has_sample(job: Job, batches: Sequence[int]) -> bool:
    """Whether the sample is among some batches: then all of it is."""
    return any(job.plans[number].part != "rest" for number in batches)


def positions_of(job: Job) -> Int64[np.ndarray, " batches"]:
    """Included positions of each batch."""
    included = job.corpus.lengths - job.corpus.included_from
    return np.array([included[plan.context_ids].sum() for plan in job.plans], np.int64)


class _Pass:
    """One pass over the corpus for one slice of the layers."""

    def __init__(
        self,
        job: Job,
        shape: ScanShape,
        folder: RunFolder,
        execution: Execution,
        reporter: Reporter,
        title: str,
        batches: Sequence[int],
    ) -> None:
        self.job, self.folder, self.reporter, self.title = job, folder, reporter, title
        self.every = execution.checkpoint_seconds
        self.name = slice_name(shape)
        self.batches = list(batches)
        sampled = has_sample(job, batches)
        self.scan, self.done = load_scan(job, folder, shape, with_sample=sampled)
        self.saved = time.monotonic()

    def run(self, workers: Workers | None) -> Scan:
        """Scan the batches that are not done, here or with workers, and keep the scan."""
        mine = np.zeros(len(self.done), np.bool_)
        mine[self.batches] = True
        todo = np.flatnonzero(mine & ~self.done).tolist()
        positions = positions_of(self.job)
        total = int(positions[mine].sum())
        before = int(positions[self.done].sum())
        if before:
            self.reporter.say(f"{self.title}: carrying on after {before:,} of {total:,} tokens")
        if not todo:
            return self.scan
        tell = self.reporter.stage(self.title, total, "tokens")
        with stop_requests() as stop:

            def after(*numbers: int) -> None:
                self.done[list(numbers)] = True
                tell(int(positions[self.done].sum()))
                self._keep(stop, total, int(positions[self.done].sum()))

            job = self.job
            if workers is None:
                scan_batches(job.model, job.corpus, self.scan, job.plans, todo, after)
            else:
                workers.scan(self.scan, todo, positions, after)
        self.folder.save(self.name, self.scan, self.done)
        return self.scan

    def _keep(self, stop: threading.Event, total: int, done: int) -> None:
        """A checkpoint, if it is time for one or the user asked for an end."""
        if stop.is_set():
            self.folder.save(self.name, self.scan, self.done)
            raise Stopped(
                f"Stopped after {done:,} of {total:,} tokens: the same command carries on from "
                "there, --restart begins anew."
            )
        if time.monotonic() - self.saved > self.every:
            try:
                self.folder.save(self.name, self.scan, self.done)
            except OSError as error:
                self.reporter.say(
                    f"No checkpoint could be written to {self.folder.path} "
                    f"({error.strerror or error}): the one before stays, and the scan goes on."
                )
            self.saved = time.monotonic()
