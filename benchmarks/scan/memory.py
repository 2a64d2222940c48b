"""How much memory a scan takes beside the model and its forward pass, and how that compares with
what a run announces. Each scan has a process of its own.

    python -m benchmarks.scan.memory --layers 30 --width 1536 --tokens 50000 --tokens 200000
    python -m benchmarks.scan.memory --layers 64 --width 7813 --tokens 20000     # 12 GB of memory
    python -m benchmarks.scan.memory --layers 12 --width 8 --latents 16384 --tokens 20000
"""

from __future__ import annotations

import multiprocessing
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.results import Figure, Save, run
from benchmarks.scan.inputs import Threads, batches, ready, thin_model, write_corpus
from benchmarks.scan.latents import save_dictionaries
from benchmarks.scan.ways import trunk
from benchmarks.tables import report
from indexer import memory
from indexer.config import IndexConfig
from indexer.scan.loop import scan_batches
from indexer.scan.state import Scan


def measure(model: Path, corpus: Path, tokens: int, dictionary: str | None = None) -> list[Figure]:
    """Scan with everything on, in this process: freed memory would be used again, so call this
    once in each. With a `dictionary`, its latents are scanned."""
    with tempfile.TemporaryDirectory(dir=corpus.parent) as folder:
        config = IndexConfig(model=str(model), corpus=str(corpus), max_tokens=tokens)
        job = ready(replace(config, dictionary=dictionary), Path(folder))
        memory.begin_peak()
        trunk(job.model)(next(batches(job)))
        before = memory.peak()
        scan = Scan(job.shape, job.corpus.source_index)
        todo = range(len(job.plans))
        scan_batches(job.model, job.corpus, scan, job.plans, todo, lambda _: None)
        used = memory.peak() - before
    announced = job.shape.bytes_held()
    row = f"{job.shape.neurons:,} {job.model.units.noun}s, {job.corpus.included_tokens:,} tokens"
    figures = [Figure(row, "announced", announced / 1e6, "MB")]
    if dictionary is not None:  # a layer's own activations of a batch are in the forward pass
        of_batch = 4 * max(job.shape.widths) * config.batch_tokens
        figures.append(Figure(row, "a batch's activations", of_batch / 1e6, "MB"))
        announced += of_batch
    figures.append(Figure(row, "taken", used / 1e6, "MB"))
    return [
        *figures,
        Figure(row, f"taken ÷ {'both' if dictionary else 'announced'}", used / announced, "×"),
    ]


def main(
    layers: Annotated[int, typer.Option(min=1, help="Layers.")] = 30,
    width: Annotated[int, typer.Option(min=1, help="Neurons a layer.")] = 1536,
    tokens: Annotated[
        list[int] | None, typer.Option(min=1000, help="Repeat. Default: 50000 and 200000.")
    ] = None,
    latents: Annotated[
        int,
        typer.Option(min=0, help="Latents a layer in place of neurons; 64 fire at a time."),
    ] = 0,
    threads: Threads = None,
    save: Save = None,
) -> None:
    """Measure the memory of scans."""
    tokens = tokens or [50_000, 200_000]
    measured: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = thin_model(folder, layers, width, seed=0)
        corpus = write_corpus(folder, 128, max(tokens), seed=0)
        dictionary = None
        if latents:
            config = IndexConfig(model=str(model), corpus=str(corpus), max_tokens=min(tokens))
            dictionary = save_dictionaries(folder, config, latents, 64, last_only=False)
        for count in tokens:
            processes = multiprocessing.get_context("spawn")
            threaded = (torch.set_num_threads, (threads,)) if threads else (None, ())
            with processes.Pool(1, *threaded) as pool:
                measured += pool.apply(measure, (model, corpus, count, dictionary))
    parameters = {"layers": layers, **({"latents": latents} if latents else {"width": width})}
    report("scan.memory", parameters, measured, save)


if __name__ == "__main__":
    run(main)
