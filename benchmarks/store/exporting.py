"""How long a run the size of SmolLM2-135M's, 46,080 neurons, takes to export to Parquet, and how
much memory.

    python -m benchmarks.store.exporting /tmp/exporting      # 3 minutes, 1.5 GB

The store is made first, of invented values, and kept for another try.
"""

from __future__ import annotations

import resource
import shutil
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from app.export.choice import Choice
from app.export.write import Request, export
from app.reading.store import Store
from benchmarks.results import run
from benchmarks.store import invented
from benchmarks.store.synthetic import blocks_of
from indexer.models.units import never_positive
from indexer.run.results import Results
from indexer.store.database import open_store
from indexer.store.writing.run import write_run

WIDTHS = (1536,) * 30
VOCABULARY, CONTEXTS = 49_152, 20_000
NAME = "smollm2"


def make(database: str, widths: tuple[int, ...] = WIDTHS, contexts: int = CONTEXTS) -> None:
    """Write the run."""
    engine = open_store(database, create=True)
    rng = np.random.default_rng(0)
    text = invented.corpus(rng, contexts, VOCABULARY)
    pool = invented.pool(rng, gated=True)

    def facts_of(layer: int) -> invented.Facts:
        own = np.random.default_rng([0, layer])
        return invented.facts(own, widths, layer, VOCABULARY, gated=True)

    results = Results(text, never_positive, facts_of)
    tokens = invented.vocabulary(rng, VOCABULARY)
    record = invented.run_record(NAME, widths, contexts, tokens)
    write_run(engine, record, blocks_of(rng, widths, text, pool, results), results.contexts())
    engine.dispose()


def measure(database: str, out: Path) -> dict[str, float]:
    """Export the run to Parquet; seconds by the clock and of the processors, MB of memory and of
    files."""
    store = Store(open_store(database, create=False))
    began, worked = time.perf_counter(), time.process_time()
    request = Request("parquet", out, Choice())
    with store.reading(NAME, None) as reading:
        neurons = export(reading, request, {}, lambda *_: lambda done: None)
    store.close()
    return {
        "neurons": neurons,
        "seconds": time.perf_counter() - began,
        "processor seconds": time.process_time() - worked,
        "memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "files MB": sum(path.stat().st_size for path in out.iterdir()) / 1e6,
    }


def main(
    folder: Annotated[Path, typer.Argument(help="Where the store and the files are.")],
) -> None:
    """Make the store if it is not there, export it, and print what that took."""
    folder.mkdir(parents=True, exist_ok=True)
    database = f"sqlite:///{folder / 'store.db'}"
    if not (folder / "store.db").exists():
        make(database)
        typer.echo("The store is made: run this again, so that only the export is measured.")
        return
    out = folder / "parquet"
    shutil.rmtree(out, ignore_errors=True)
    for name, value in measure(database, out).items():
        typer.echo(f"{name}: {value:,.1f}")


if __name__ == "__main__":
    run(main)
