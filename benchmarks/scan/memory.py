"""What memory a scan takes beside the model and its forward pass, and whether that grows with the
corpus: each case in a process of its own.

python -m benchmarks.scan.memory --layers 30 --width 1536 --tokens 50000 --tokens 200000

The model is wide and thin: as many neurons as asked for, of weights so few that its forward pass
costs next to nothing. All that a scan keeps is of the neurons alone.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import torch
import transformers
import typer
from rich import print as show

from benchmarks.machine import machine
from benchmarks.scan.shapes import write_corpus
from indexer.config import Execution, IndexConfig
from indexer.demo import MODEL_DIR
from indexer.models.failures import quiet
from indexer.run import passes
from indexer.run.checkpoint import RunFolder
from indexer.scan.job import ask, load, prepare
from indexer.scan.shape import ScanShape

_HIDDEN = 32


@dataclass(frozen=True)
class Taken:
    """What one scan took. Bytes, seconds."""

    neurons: int
    contexts: int
    tokens: int
    seen: int
    """Of the set of contexts that were seen, while the corpus was prepared."""
    expected: int
    """Of the scan's state, as a run says beforehand."""
    passes: int
    """Slices of layers, of which one is in memory at a time: `expected` and `used` are of one."""
    used: int
    """Resident at most, beyond what the model and its forward pass took."""
    seconds: float


class _Silent:
    """Says nothing."""

    def say(self, line: str) -> None:
        pass

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        return lambda done: None


def write_model(folder: Path, layers: int, width: int, seed: int) -> Path:
    """A random Llama of so many neurons, with the demo's tokenizer."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        hidden_size=_HIDDEN,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_attention_heads=1,
        num_key_value_heads=1,
        vocab_size=4096,
        max_position_embeddings=128,
    )
    path = folder / f"thin-{layers}-{width}"
    with quiet():
        transformers.LlamaForCausalLM(config).save_pretrained(path)
        transformers.AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(path)
    return path


def measure(model: Path, corpus: Path, tokens: int, threads: int | None = None) -> Taken:
    """Scan so many tokens with everything on, in this process: to be asked once in each."""
    if threads:
        torch.set_num_threads(threads)
    found: list[tuple[int, int]] = []

    def note(used: int, shape: ScanShape, _reporter: object) -> None:
        found.append((used, shape.bytes_held()))

    told = patch.object(passes, "_check_memory", note)  # what it is told is what is wanted
    with told, tempfile.TemporaryDirectory(dir=corpus.parent) as folder:
        question = ask(IndexConfig(model=str(model), corpus=str(corpus), max_tokens=tokens))
        job = load(question, prepare(question, Path(folder), _Silent()), _Silent())
        began = time.perf_counter()
        run = RunFolder(Path(folder) / "run")
        next(passes.scan_slices(job, run, Execution(), _Silent()))
        seconds = time.perf_counter() - began
    used, expected = max(found)
    return Taken(
        neurons=job.shape.neurons,
        contexts=job.corpus.contexts,
        tokens=len(job.corpus.tokens),
        seen=16 * job.corpus.contexts,
        expected=expected,
        passes=len(found),
        used=used,
        seconds=seconds,
    )


def main(
    folder: Annotated[Path, typer.Option(help="Where models, texts and checkpoints are made.")],
    layers: Annotated[int, typer.Option(min=1, help="Layers.")] = 30,
    width: Annotated[int, typer.Option(min=1, help="Neurons a layer.")] = 1536,
    tokens: Annotated[
        list[int] | None, typer.Option(min=1000, help="Repeat. Default: 50000 and four times that.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch. Default: its own.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write all that was measured as JSON.")] = None,
) -> None:
    """Measure the memory of scans."""
    every = tokens or [50_000, 200_000]
    found: list[Taken] = []
    with tempfile.TemporaryDirectory(dir=folder) as name:
        here = Path(name)
        model = write_model(here, layers, width, seed=0)
        corpus = write_corpus(here, 128, max(every), seed=0)
        for count in every:
            # A new process: what the one before has freed is not this one's to use again.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                one = pool.apply(measure, (model, corpus, count, threads))
            found.append(one)
            show(
                f"{one.neurons:,} neurons, {one.tokens:,} tokens in {one.contexts:,} contexts, "
                f"{one.passes} pass(es), {one.seconds:.0f} s: {one.used / 1e6:,.0f} MB beside the "
                f"model and its forward pass, {one.used / one.expected:.3f} of the "
                f"{one.expected / 1e6:,.0f} MB said beforehand; seen contexts "
                f"{one.seen / 1e6:.1f} MB"
            )
    if save is not None:
        told = {
            "machine": machine(("numpy", "torch", "transformers")),
            "scans": [asdict(one) for one in found],
        }
        save.write_text(json.dumps(told, indent=2))


if __name__ == "__main__":
    typer.run(main)
