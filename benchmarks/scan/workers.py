"""How much faster two workers of one thread each scan than one process of one thread.

python -m benchmarks.scan.workers --model SmolLM2-135M.gguf

Both scan the same batches with everything on, in turns, in one process that also keeps and merges
what the workers give back. Starting workers and loading their models is shown apart.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer

from benchmarks.machine import machine
from benchmarks.scan.indexing import PACKAGES, Silent
from indexer.config import Execution, IndexConfig
from indexer.errors import NeurariumError
from indexer.run.passes import positions_of
from indexer.scan.job import Job, ask, load, prepare
from indexer.scan.loop import scan_batches
from indexer.scan.state import Scan
from indexer.workers.orders import Order, scan_by_crew
from indexer.workers.ray import RayCrew, Seat, connected
from indexer.workers.worker import Task


def measure(job: Job, workers: int, rounds: int) -> dict[str, Any]:
    """Seconds of each turn, and what starting the workers took. Raises NeurariumError."""
    began = time.perf_counter()
    needed = job.shape.bytes_held() * (workers + 1)
    with connected(Execution(workers=workers), needed) as ray:
        crew = RayCrew(ray, Task.of(job), workers, Seat(cpus=1, gpus=0, threads=1))
        for worker in range(workers):
            crew.give(worker, Order(job.shape, (), {}, False))  # loads its model
        waiting = workers
        while waiting:
            waiting -= len(crew.wait(1.0))
        started = time.perf_counter() - began
        todo = range(len(job.plans))

        def alone(scan: Scan) -> None:
            scan_batches(job.model, job.corpus, scan, job.plans, todo, lambda _: None)

        def many(scan: Scan) -> None:
            scan_by_crew(crew, scan, job.plans, positions_of(job), todo, lambda *_: None)

        seconds: dict[str, list[float]] = {"one": [], "many": []}
        first: Scan | None = None
        for turn in range(rounds):
            ways: list[tuple[str, Callable[[Scan], None]]] = [("one", alone), ("many", many)]
            for name, scan_with in ways[:: 1 if turn % 2 == 0 else -1]:
                scan = Scan(job.shape, job.corpus.source_index)
                began = time.perf_counter()
                scan_with(scan)
                seconds[name].append(time.perf_counter() - began)
                first = scan if first is None else first
                if any(
                    (one != other).any()
                    for one, other in zip(_lists(scan), _lists(first), strict=True)
                ):
                    raise NeurariumError("One process and many workers found different lists.")
        crew.close()
    return {
        "neurons": job.shape.neurons,
        "tokens": job.corpus.included_tokens,
        "sample": len(job.shape.sample),
        "workers": workers,
        "started": started,
        "seconds": seconds,
        "ratio": median(seconds["one"]) / median(seconds["many"]),
    }


def _lists(scan: Scan) -> list[Any]:
    return [part for one in scan.selections().values() for part in (one.values, one.ids)]


def main(
    model: Annotated[str, typer.Option(help="As `neurarium index` takes it.")] = "demo",
    tokens: Annotated[int, typer.Option(min=1000, help="Of the demo's corpus.")] = 60_000,
    sample: Annotated[int, typer.Option(min=2, help="Contexts in the sample.")] = 64,
    workers: Annotated[int, typer.Option(min=2, help="Workers of one thread each.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 3,
    save: Annotated[Path | None, typer.Option(help="Write all that was measured as JSON.")] = None,
) -> None:
    """Measure what workers gain."""
    torch.set_num_threads(1)
    config = IndexConfig(
        model=model, corpus="demo", max_tokens=tokens, sample=sample, dtype="float32", device="cpu"
    )
    facts = machine(PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        try:
            question = ask(config)
            text = prepare(question, Path(folder), Silent())
            found = measure(load(question, text, Silent()), workers, rounds)
        except NeurariumError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None
    for name, seconds in found["seconds"].items():
        rate = found["tokens"] / median(seconds)
        typer.echo(
            f"{name:5} {rate:8,.0f} tokens/s, {median(seconds):.1f} s "
            f"({min(seconds):.1f} to {max(seconds):.1f})"
        )
    typer.echo(f"{workers} workers ÷ one process: {found['ratio']:.2f}")
    typer.echo(f"Starting them and loading their models took {found['started']:.1f} s")
    if save is not None:
        save.write_text(json.dumps(facts | found, indent=1))


if __name__ == "__main__":
    typer.run(main)
