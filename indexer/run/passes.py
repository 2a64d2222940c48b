"""The passes over the corpus that make a run's scans: one pass for each slice, each resumed from
its last checkpoint.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

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
from indexer.scan.slices import Slice, choose_slices
from indexer.scan.state import Scan
from indexer.workers.crew import Workers, many_workers, memory_for

MEMORY_MARGIN = 1.3
"""How many times its state a scan may take before the user is told."""
MEMORY_NOISE = 1 << 28
"""Bytes that allocators and one layer's sums may take beside that."""

Done = Bool[np.ndarray, " batches"]


def scan_slices(
    job: Job,
    folder: RunFolder,
    execution: Execution,
    reporter: Reporter,
    todo: Sequence[int] | None = None,
) -> Iterator[Scan]:
    """Scan all layers, in as many passes as memory requires, and return the finished scans.

    Args:
        job: the model, the corpus and all batches.
        folder: the run's checkpoints; created if it does not exist.
        execution: workers, memory, time between checkpoints.
        reporter: told about progress.
        todo: the batches to scan, such as a shard's share. None: all.

    Raises `Stopped` when the user stops it, after saving a checkpoint.
    """
    if folder.exists:
        folder.check_inputs(job.facts())
        slices = folder.facts.slices
    else:
        slices = choose_slices(job.shape, memory_for(job, execution))
        facts = RunFacts(uuid.uuid4().hex, job.config.as_dict(), job.facts(), slices)
        folder.begin(facts)
    if len(slices) > 1:
        reporter.say(f"Memory does not hold the state of all layers at once: {len(slices)} passes")
    batches = range(len(job.plans)) if todo is None else todo
    before = _forward_peak(job)
    only: Scan | None = None
    with many_workers(job, execution, reporter) as workers:
        for number, part in enumerate(slices):
            only = None  # free its memory before the next is made
            title = "Scanning" if len(slices) == 1 else f"Pass {number + 1} of {len(slices)}"
            only = _Pass(job, part, folder, execution, reporter, title, batches).run(workers)
            if workers is None:  # results in transit from workers are not in the estimate
                _check_memory(memory.peak() - before, part.of(job.shape), reporter)
    assert only is not None  # a model has layers
    return iter([only]) if len(slices) == 1 else _finished(job, folder)


def _forward_peak(job: Job) -> int:
    """The memory of this process with the model and a forward pass through the first layer that has
    units, of the first batch, which is as large as any. `memory.peak` counts from this call on."""
    batch = fill_batch(job.plans[0], job.corpus, padding_id=0)
    tokens, attention = torch.from_numpy(batch.tokens), torch.from_numpy(batch.attention)
    memory.begin_peak()
    first = next(layer for layer, width in enumerate(job.shape.widths) if width)
    job.model.capture(tokens, attention, lambda *_: None, range(first, first + 1))
    return memory.peak()


def _check_memory(used: int, shape: ScanShape, reporter: Reporter) -> None:
    """Tell the user if a scan took much more memory than the plan said."""
    expected = shape.bytes_held()
    if used > MEMORY_MARGIN * expected + MEMORY_NOISE:
        reporter.say(
            f"The scan took {readable_bytes(used)} of memory beside the model, more than the "
            f"{readable_bytes(expected)} expected"
        )


def _finished(job: Job, folder: RunFolder) -> Iterator[Scan]:
    """The scans of all slices, loaded one at a time."""
    for part in folder.facts.slices:
        yield load_scan(job, folder, part)[0]


def load_scan(
    job: Job, folder: RunFolder, part: Slice, *, with_sample: bool = True
) -> tuple[Scan, Done]:
    """A slice's scan from its last checkpoint, and the batches in it. Raises NeurariumError."""
    done = np.zeros(len(job.plans), np.bool_)
    scan = Scan(part.of(job.shape), job.corpus.source_index, with_sample=with_sample)
    folder.load(part.name, scan, done)
    return scan, done


def sample_peaks(folder: RunFolder, layer: int) -> Float32[np.ndarray, "units s"]:
    """The sample's peaks of all units of a layer that is cut, from its slices' checkpoints. Raises
    NeurariumError."""
    parts = [part for part in folder.facts.slices if part.units and part.first == layer]
    return np.concatenate([folder.load_part(part.name, "sample.peaks") for part in parts])


def has_sample(job: Job, batches: Sequence[int]) -> bool:
    """Whether batches include the sample: they then include all of it."""
    return any(job.plans[number].part != "rest" for number in batches)


def positions_of(job: Job) -> Int64[np.ndarray, " batches"]:
    """Included positions of each batch."""
    included = job.corpus.included
    return np.array([included[plan.context_ids].sum() for plan in job.plans], np.int64)


class _Pass:
    """One pass over the corpus for one slice."""

    def __init__(
        self,
        job: Job,
        part: Slice,
        folder: RunFolder,
        execution: Execution,
        reporter: Reporter,
        title: str,
        batches: Sequence[int],
    ) -> None:
        self.job, self.folder, self.reporter, self.title = job, folder, reporter, title
        self.every = execution.checkpoint_seconds
        self.name = part.name
        self.batches = list(batches)
        sampled = has_sample(job, batches)
        self.scan, self.done = load_scan(job, folder, part, with_sample=sampled)
        self.saved = time.monotonic()

    def run(self, workers: Workers | None) -> Scan:
        """Scan the batches that are not done, in this process or in workers, and save the scan."""
        mine = np.zeros(len(self.done), np.bool_)
        mine[self.batches] = True
        todo = np.flatnonzero(mine & ~self.done).tolist()
        positions = positions_of(self.job)
        total = int(positions[mine].sum())
        before = int(positions[self.done].sum())
        if not todo:
            return self.scan
        if before:
            self.reporter.say(f"{self.title}: resuming after {before:,} of {total:,} tokens")
        progress = self.reporter.stage(self.title, total, "tokens")
        with stop_requests() as stop:

            def after(*numbers: int) -> None:
                self.done[list(numbers)] = True
                progress(int(positions[self.done].sum()))
                self._save(stop, total, int(positions[self.done].sum()))

            job = self.job
            if workers is None:
                scan_batches(job.model, job.corpus, self.scan, job.plans, todo, after)
            else:
                workers.scan(self.scan, todo, positions, after)
        self.folder.save(self.name, self.scan, self.done)
        return self.scan

    def _save(self, stop: threading.Event, total: int, done: int) -> None:
        """Save a checkpoint if it is time for one, or if the user wants to stop."""
        if stop.is_set():
            self.folder.save(self.name, self.scan, self.done)
            raise Stopped(
                f"Stopped after {done:,} of {total:,} tokens: the same command resumes from "
                "there, --restart starts over."
            )
        if time.monotonic() - self.saved > self.every:
            try:
                self.folder.save(self.name, self.scan, self.done)
            except OSError as error:
                self.reporter.say(
                    f"No checkpoint could be written to {self.folder.path} "
                    f"({error.strerror or error}): the previous one stays, and the scan goes on."
                )
            self.saved = time.monotonic()
