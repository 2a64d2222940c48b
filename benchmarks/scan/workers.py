"""How much faster several workers of one thread each scan than one process of one thread.

    python -m benchmarks.scan.workers --model SmolLM2-135M.gguf --tokens 16000

Both scan the same batches with everything on and must find the same lists. The workers' time
includes sending and merging their scans; starting them and loading their models is timed apart.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.results import Figure, run
from benchmarks.rounds import interleave, times_faster
from benchmarks.scan.indexing import Silent
from benchmarks.tables import report
from indexer.config import Execution, IndexConfig
from indexer.errors import NeurariumError
from indexer.run.passes import positions_of
from indexer.scan.choice import resolve
from indexer.scan.job import Job, load, prepare
from indexer.scan.loop import scan_batches
from indexer.scan.state import Scan
from indexer.workers.crew import RayCrew, WorkerResources, connected
from indexer.workers.orders import Order, UnitsWork, scan_by_crew
from indexer.workers.worker import Task


def measure(job: Job, workers: int, rounds: int) -> list[Figure]:
    """Speeds of one process and of the workers. Raises NeurariumError if their lists differ."""
    began = time.perf_counter()
    needed = job.shape.bytes_held() * (workers + 1)
    with connected(Execution(workers=workers), needed) as ray:
        crew = RayCrew(ray, Task.of(job), workers, WorkerResources(cpus=1, gpus=0, threads=1))
        for worker in range(workers):
            crew.give(worker, Order(job.shape, (), {}, False))  # loads its model
        waiting = workers
        while waiting:
            waiting -= len(crew.wait(1.0))
        started = time.perf_counter() - began
        todo = range(len(job.plans))

        def alone(_: int) -> Scan:
            scan = Scan(job.shape, job.corpus.source_index)
            scan_batches(job.model, job.corpus, scan, job.plans, todo, lambda _: None)
            return scan

        def together(_: int) -> Scan:
            scan = Scan(job.shape, job.corpus.source_index)
            scan_by_crew(crew, UnitsWork(scan), job.plans, positions_of(job), todo, lambda *_: None)
            return scan

        turns = list(interleave({"alone": alone, "together": together}, range(rounds)))
        crew.close()
    first = _lists(turns[0].result)
    for turn in turns:
        if any((a != b).any() for a, b in zip(_lists(turn.result), first, strict=True)):
            raise NeurariumError("One process and the workers measured different lists.")
    tokens, row = job.corpus.included_tokens, f"{job.name}, {job.corpus.included_tokens:,} tokens"
    rates = {key: [tokens / t.wall for t in turns if t.key == key] for key in ("alone", "together")}
    return [
        Figure.of(row, "one process", rates["alone"], "tokens/s"),
        Figure.of(row, f"{workers} workers", rates["together"], "tokens/s"),
        Figure.of(row, "workers ÷ process", times_faster(turns, "together", "alone"), "×"),
        Figure(row, "starting workers", started, "s"),
    ]


def _lists(scan: Scan) -> list[Any]:
    return [part for one in scan.selections().values() for part in (one.values, one.ids)]


def main(
    model: Annotated[str, typer.Option(help="As in `neurarium index`.")] = "demo",
    tokens: Annotated[int, typer.Option(min=1000, help="Of the demo's corpus.")] = 60_000,
    sample: Annotated[int, typer.Option(min=2, help="Contexts in the sample.")] = 64,
    workers: Annotated[int, typer.Option(min=2, help="Workers of one thread each.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 3,
    save: Annotated[Path | None, typer.Option(help="Save the figures as JSON.")] = None,
) -> None:
    """Measure how much workers gain."""
    torch.set_num_threads(1)
    config = IndexConfig(
        model=model, corpus="demo", max_tokens=tokens, sample=sample, dtype="float32", device="cpu"
    )
    with tempfile.TemporaryDirectory() as folder:
        choice = resolve(config)
        text = prepare(choice, Path(folder), Silent())
        measured = measure(load(choice, text, Silent()), workers, rounds)
    report("scan.workers", {"sample": sample, "workers": workers, "rounds": rounds}, measured, save)


if __name__ == "__main__":
    run(main)
