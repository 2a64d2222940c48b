"""Pairs of positions, ranked beside the activations of attention heads: their part of a pass, and
its checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np

from indexer.config import Execution
from indexer.corpus.batches import Batch
from indexer.errors import NeurariumError
from indexer.heads.batch import HeadBatch
from indexer.heads.effects import heads_of, logit_path
from indexer.heads.measure import new_scan
from indexer.heads.saved import arrays_of, restore
from indexer.heads.scan import HeadScan
from indexer.reporter import Reporter
from indexer.run.checkpoint import RunFolder
from indexer.run.passes import Done, positions_of
from indexer.run.together import checkpoints, one_pass, scan_here
from indexer.scan.job import Job
from indexer.workers.crew import many_workers
from indexer.workers.pairs import PairsWork

NAME = "pairs"
"""Of its file, without the ending."""
TITLE = "Pairs of positions"
_DONE = "done"


class Pairs:
    """The pairs of a run's heads; `folder` None: without checkpoints."""

    def __init__(self, job: Job, folder: RunFolder | None) -> None:
        """Goes on from the last checkpoint. Raises NeurariumError if it cannot be used."""
        self.folder = folder
        self.heads, self.path = heads_of(job.model), logit_path(job.model)
        self.scan = new_scan(job)
        self.done: Done = np.zeros(len(job.plans), np.bool_)
        arrays = None if folder is None else folder.load_arrays(NAME)
        if folder is None or arrays is None:
            return
        try:
            restore(self.scan, arrays)
            self.done[:] = arrays[_DONE]
        except (KeyError, ValueError, TypeError) as error:
            raise NeurariumError(
                f"The checkpoint of pairs in {folder.path} cannot be used ({error}): start over "
                "with --restart."
            ) from error

    @contextmanager
    def hooks(self, batch: Batch) -> Iterator[None]:
        """Measure a batch: open during its forward pass."""
        measured = HeadBatch(self.heads, self.path, batch, self.scan.scores)
        with measured.hooks():
            yield
        self.scan.add(measured)

    def save(self) -> None:
        """Write the checkpoint. Raises OSError."""
        if self.folder is not None:
            self.folder.save_arrays(NAME, {_DONE: self.done, **arrays_of(self.scan)})


def scan_pairs(
    job: Job, folder: RunFolder | None, execution: Execution, reporter: Reporter
) -> HeadScan:
    """The pairs of all batches. Those that are not done are measured in a pass of their own, in
    this process or in workers.

    Raises `Stopped` when the user stops it, after saving a checkpoint, and NeurariumError.
    """
    pairs = Pairs(job, folder)
    if pairs.done.all():
        return pairs.scan
    with many_workers(job, execution, reporter) as workers:
        if workers is None:
            one_pass(job, [pairs], TITLE, execution, reporter)
            return pairs.scan
        with checkpoints(job, [pairs], TITLE, execution, reporter) as (todo, after):
            here = partial(scan_here, job, [pairs], after=after)
            workers.divide(PairsWork(pairs.scan), todo, positions_of(job), here, after)
    return pairs.scan
