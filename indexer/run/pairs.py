"""The pass over pairs of positions that a run of attention heads makes after its scan, resumed from
its last checkpoint."""

from __future__ import annotations

import time

import numpy as np

from indexer.config import Execution
from indexer.errors import NeurariumError
from indexer.heads.effects import heads_of, logit_path
from indexer.heads.measure import new_scan
from indexer.heads.saved import arrays_of, restore
from indexer.heads.scan import HeadScan, scan_heads
from indexer.reporter import Reporter
from indexer.run.checkpoint import RunFolder
from indexer.run.passes import Done, positions_of
from indexer.run.stopping import Stopped, stop_requests
from indexer.scan.job import Job

NAME = "pairs"
"""Of its file, without the ending."""
_DONE = "done"


def scan_pairs(
    job: Job, folder: RunFolder | None, execution: Execution, reporter: Reporter
) -> HeadScan:
    """Run the model over the batches that are not done, in this process; `folder` None: without
    checkpoints.

    Raises `Stopped` when the user stops it, after saving a checkpoint, and NeurariumError.
    """
    scan, done = new_scan(job), np.zeros(len(job.plans), np.bool_)
    if folder is not None:
        _load(folder, scan, done)
    positions = positions_of(job)
    total, before = int(positions.sum()), int(positions[done].sum())
    if before:
        reporter.say(f"Pairs of positions: resuming after {before:,} of {total:,} tokens")
    progress = reporter.stage("Pairs of positions", total, "tokens")
    saved = time.monotonic()
    model = job.model
    with stop_requests() as stop:
        for number in np.flatnonzero(~done).tolist():
            scan_heads(heads_of(model), logit_path(model), job.corpus, scan, [job.plans[number]])
            done[number] = True
            now = int(positions[done].sum())
            progress(now)
            if folder is None:
                continue
            if stop.is_set():
                _save(folder, scan, done)
                raise Stopped(
                    f"Stopped after {now:,} of {total:,} tokens of the pass over pairs: the same "
                    "command resumes from there, --restart starts over."
                )
            if time.monotonic() - saved > execution.checkpoint_seconds:
                try:
                    _save(folder, scan, done)
                except OSError as error:
                    reporter.say(
                        f"No checkpoint could be written to {folder.path} "
                        f"({error.strerror or error}): the previous one stays, and the pass goes "
                        "on."
                    )
                saved = time.monotonic()
    if folder is not None:
        _save(folder, scan, done)
    return scan


def _save(folder: RunFolder, scan: HeadScan, done: Done) -> None:
    folder.save_arrays(NAME, {_DONE: done, **arrays_of(scan)})


def _load(folder: RunFolder, scan: HeadScan, done: Done) -> None:
    """Fill a new scan and `done` from the last checkpoint, if there is one."""
    arrays = folder.load_arrays(NAME)
    if arrays is None:
        return
    try:
        restore(scan, arrays)
        done[:] = arrays[_DONE]
    except (KeyError, ValueError, TypeError) as error:
        raise NeurariumError(
            f"The checkpoint of pairs in {folder.path} cannot be used ({error}): start over with "
            "--restart."
        ) from error
