"""How long a run the size of SmolLM2-135M's, 46,080 neurons, takes to export with everything, and
how much memory, beside a third of it.

    python -m benchmarks.store.exporting /tmp/exporting --save benchmarks/results/exporting.json

Takes 3 minutes and 2 GB of disk. The store is made first, of invented values, and kept for another
try. Each export runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from app.export.choice import Choice
from app.export.write import Format, Request, export
from app.reading.store import Store
from benchmarks.results import Figure, Save, run
from benchmarks.store import invented
from benchmarks.tables import report
from indexer import memory
from indexer.models.units import never_large
from indexer.run.results import Results
from indexer.store.database import open_store
from indexer.store.writing.run import write_run
from indexer.weights.facts import LayerFacts

VOCABULARY, CONTEXTS = 49_152, 20_000
NAME = "smollm2"
FORMATS: tuple[Format, ...] = ("parquet", "safetensors")


def make(database: str, widths: tuple[int, ...], contexts: int = CONTEXTS) -> None:
    """Write the run."""
    engine = open_store(database, create=True)
    rng = np.random.default_rng(0)
    text, pool = invented.corpus(rng, contexts, VOCABULARY), invented.pool(rng)
    whole = invented.shape(widths, contexts)

    def facts_of(layer: int) -> LayerFacts:
        return invented.facts(np.random.default_rng([0, layer]), widths, layer, VOCABULARY)

    results = Results(text, never_large, facts_of)
    blocks = chain.from_iterable(  # the scan of one layer is in memory at a time
        results.neurons(invented.scan(rng, whole.slice(layer, layer + 1), text, pool))
        for layer in range(len(widths))
    )
    record = invented.run_record(NAME, widths, contexts, invented.vocabulary(VOCABULARY))
    write_run(engine, record, blocks, results.contexts())
    engine.dispose()


def measure(database: str, out: Path, format: Format, layers: str | None) -> list[Figure]:
    """Export the run, or layers of it: seconds by the clock and of the processors, the largest
    memory of this process, and what is written."""
    began, worked = time.perf_counter(), time.process_time()
    memory.begin_peak()
    store = Store(open_store(database, create=False))
    with store.reading(NAME, None) as reading:
        request = Request(format, out, Choice(layers=layers))
        neurons = export(reading, request, None, lambda *_: lambda done: None)
    store.close()
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    files = [out] if out.is_file() else list(out.iterdir())
    column = f"{format}, {neurons:,} neurons"
    return [
        Figure("exporting", column, seconds, "s"),
        Figure("processor time", column, worked, "s"),
        Figure("memory", column, memory.peak() / 1e6, "MB"),
        Figure("written", column, sum(file.stat().st_size for file in files) / 1e6, "MB"),
    ]


def alone(database: str, out: Path, format: Format, layers: str | None) -> list[Figure]:
    """As `measure`, in a new process, with nothing left on the disk."""
    new = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, new) as pool:
            return pool.submit(measure, database, out, format, layers).result()
    finally:
        if out.is_dir():
            shutil.rmtree(out)
        out.unlink(missing_ok=True)


def main(
    folder: Annotated[Path, typer.Argument(help="Where the store and the files are.")],
    layers: Annotated[int, typer.Option(min=3, help="Layers.")] = 30,
    width: Annotated[int, typer.Option(min=1, help="Neurons a layer.")] = 1536,
    save: Save = None,
) -> None:
    """Make the store if it is not there, and measure how long exports take."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{layers}x{width}.db"
    if not file.exists():
        partial = file.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        make(f"sqlite:///{partial}", (width,) * layers)
        partial.replace(file)
    third = f"0-{layers // 3 - 1}"
    figures = [
        figure
        for format in FORMATS
        for choice in (third, None)
        for figure in alone(f"sqlite:///{file}", folder / format, format, choice)
    ]
    report("store.exporting", {"layers": layers, "width": width}, figures, save)


if __name__ == "__main__":
    run(main)
