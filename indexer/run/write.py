"""Writes a finished scan to the store, and times the stages of a run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

from sqlalchemy import Engine

from indexer.errors import NeurariumError
from indexer.heads.measure import measure_heads
from indexer.heads.scan import HeadScan
from indexer.reporter import Reporter, waiting
from indexer.run.before import Before
from indexer.run.provenance import run_record
from indexer.run.quality import Quality
from indexer.run.results import PeaksOf, Results
from indexer.scan.job import Job
from indexer.scan.state import Scan
from indexer.store.database import being_written, check_writable
from indexer.store.writing.records import NeuronBlock
from indexer.store.writing.run import write_run
from indexer.weights.facts import LayerFacts, weight_facts


class Clock:
    """Wall time of each stage in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        """Add the time since the last stage ended."""
        now = time.monotonic()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def start(self) -> None:
        """Leave out the time since the last stage: it was another run's."""
        self._last = time.monotonic()


def wait_for_writing(engine: Engine, reporter: Reporter) -> None:
    """Wait until the store can be written to. Raises NeurariumError."""
    with waiting(reporter.say, being_written(engine)):
        check_writable(engine)


def write(
    engine: Engine,
    job: Job,
    scan_id: str,
    scans: Iterator[Scan],
    before: Before,
    clock: Clock,
    reporter: Reporter,
    qualities: tuple[Quality, ...],
    pairs: Callable[[], HeadScan],
    peaks_of: PeaksOf,
) -> int:
    """Write finished scans to the store; returns the run's id. `pairs` makes the pass over pairs of
    positions, and is called for attention heads; `peaks_of` is as in `Results`. Raises
    NeurariumError."""
    current = [next(scans)]
    heads = None
    if job.model.units.has_pairs:
        heads = measure_heads(job, pairs(), before.training)
        clock.lap("heads")
    wait_for_writing(engine, reporter)
    record = run_record(job, scan_id, current[0], before, clock.seconds, heads, qualities)
    progress = reporter.stage("Writing", job.shape.neurons, f"{job.model.units.noun}s")
    known = weight_facts(job.model, before.facts, connections=job.config.connections)

    def facts_of(layer: int) -> LayerFacts:
        try:
            return known(layer)
        except (NeurariumError, RuntimeError, MemoryError) as error:  # the scan took hours
            reporter.say(
                f"Warning: facts from the weights of layer {layer} are left out, since they could "
                f"not be computed ({type(error).__name__}: {' '.join(str(error).split())[:200]})."
            )
            return LayerFacts({}, {})

    results = Results(job.corpus, job.model.units.dead, facts_of, job.model.device, peaks_of)
    if heads is not None:
        results.use(heads.contexts)

    def neurons() -> Iterator[NeuronBlock]:
        done = 0
        while current:
            for block in results.neurons(current[0]):
                yield block
                done += len(block)
                progress(done)
            current.clear()  # free its memory before the next is loaded
            current.extend(itertools.islice(scans, 1))

    run_id = write_run(engine, record, neurons(), results.contexts(), heads)
    clock.lap("write")
    return run_id
