"""How fast a model is scanned, as a share of its own forward pass.

    python -m benchmarks.scan.indexing demo --threads 2 --save benchmarks/results/scan-demo.json
    python -m benchmarks.scan.indexing smollm2 gpt2 --ctx-len 1024 --sample 16

`benchmarks/README.md` defines every figure.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import track

from benchmarks.results import Figure, Save, run
from benchmarks.rounds import Turn, interleave, quartiles, times_faster
from benchmarks.scan.inputs import (
    BatchTokens,
    Sample,
    Shapes,
    Silent,
    SmolLM2,
    Threads,
    Tokens,
    batches,
    check,
    model_of,
    write_corpus,
)
from benchmarks.scan.ways import FORWARD, SCAN, TRUNK, ways_of
from benchmarks.tables import report
from indexer.config import IndexConfig
from indexer.corpus.batches import Batch, fill_batch
from indexer.scan.choice import resolve
from indexer.scan.job import load, prepare

LONG_RUN = 10_000_000
"""Tokens of the run that a ratio is computed for."""

Key = tuple[str, str]
"""dtype, way."""
BatchTurn = Turn[Key, Batch]


def measure(name: str, config: IndexConfig, dtypes: Sequence[str], folder: Path) -> list[Figure]:
    """Time every way on every batch of a run's plan, all dtypes in one process.

    Args:
        name: the column of the figures.
        config: the run, without its dtype.
        dtypes: float32 and so on.
        folder: where the corpus is prepared.

    Raises NeurariumError if the model or the corpus cannot be used.
    """
    text = prepare(resolve(config), folder, Silent())
    jobs = {dtype: load(resolve(replace(config, dtype=dtype)), text, Silent()) for dtype in dtypes}
    ways = {dtype: ways_of(job) for dtype, job in jobs.items()}
    job = jobs[dtypes[0]]
    for of in ways.values():  # the first call of a model in a process is slow: not timed
        of[TRUNK](fill_batch(job.plans[-1], job.corpus, padding_id=0))
    contestants = {(dtype, way): run for dtype in dtypes for way, run in ways[dtype].items()}
    rounds = track(batches(job), name, len(job.plans), transient=True)
    on_gpu = job.model.device.type == "cuda"
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    return figures(name, list(interleave(contestants, rounds, config.seed, wait=wait)))


def figures(name: str, turns: Sequence[BatchTurn]) -> list[Figure]:
    """Every way's speed as a share of the trunk's, in the sample, in the rest, in the rest's last
    quarter and over the whole run."""
    measured = []
    order = [TRUNK, FORWARD, SCAN]
    keys = {turn.key for turn in turns}
    for dtype, way in sorted(keys, key=lambda key: (key[0], order.index(key[1]))):
        own = [turn for turn in turns if turn.key == (dtype, way)]
        if way == TRUNK:
            rates = [int(turn.item.included.sum()) / turn.wall for turn in own]
            measured.append(Figure.of(f"{TRUNK}, {dtype}", name, rates, "tokens/s"))
            continue
        limits = [turn for turn in turns if turn.key == (dtype, TRUNK)]
        parts = _parts(own, limits, (dtype, way))
        shown = ("sample", "rest", "late") if way == SCAN else ("rest",)
        measured += [
            Figure.of(f"{way}, {part}, {dtype}", name, parts[part], "× trunk")
            for part in shown
            if parts.get(part)
        ]
        if way == SCAN and parts["sample"] and parts["rest"]:
            in_sample = sum(int(t.item.included.sum()) for t in own if _in_sample(t))
            tokens = sum(int(turn.item.included.sum()) for turn in own)
            for title, end, total in (
                ("whole run", "rest", tokens),
                (f"at {LONG_RUN // 10**6}M tokens", "late", LONG_RUN),
            ):
                value = over_run(parts["sample"], parts[end] or parts["rest"], in_sample / total)
                measured.append(Figure(f"{way}, {title}, {dtype}", name, value, "× trunk"))
    return measured


def _parts(own: Sequence[BatchTurn], limits: Sequence[BatchTurn], key: Key) -> dict[str, Any]:
    """The trunk's seconds ÷ a way's for each batch, by part of the run. `late` is the rest's last
    quarter, of four batches or more: fewer contexts still enter a list there."""
    rest = [turn for turn in own if not _in_sample(turn)]
    groups = {
        "sample": [turn for turn in own if _in_sample(turn)],
        "rest": rest,
        "late": rest[-(len(rest) // 4) :] if len(rest) >= 4 else [],
    }
    trunk_key = (key[0], TRUNK)
    return {part: times_faster([*limits, *group], key, trunk_key) for part, group in groups.items()}


def _in_sample(turn: BatchTurn) -> bool:
    return turn.item.part != "rest"


def over_run(sample: Sequence[float], rest: Sequence[float], share: float) -> float:
    """A way's speed ÷ the trunk's over a run, of whose tokens `share` is the sample's: from the
    medians over the sample's batches and over the rest's."""
    in_sample, in_rest = quartiles(sample)[1], quartiles(rest)[1]
    share = min(1.0, share)
    return 1 / (share / in_sample + (1 - share) / in_rest)


def main(
    shapes: Shapes,
    smollm2: SmolLM2 = None,
    ctx_len: Annotated[int, typer.Option(help="Tokens in a context; the demo has 128.")] = 128,
    dtype: Annotated[
        list[str] | None, typer.Option(help="Repeat. Default: float32 and bfloat16.")
    ] = None,
    tokens: Tokens = 200_000,
    sample: Sample = 1024,
    batch_tokens: BatchTokens = 4096,
    threads: Threads = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda. Default: CUDA if any.")] = None,
    seed: Annotated[int, typer.Option(help="Of text, sample and order of turns.")] = 0,
    save: Save = None,
) -> None:
    """Measure how fast models are scanned."""
    check(shapes, threads)
    measured: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for shape in shapes:
            config = IndexConfig(
                model=model_of(shape, smollm2, folder, seed),
                corpus=str(write_corpus(folder, ctx_len, tokens, seed)),
                ctx_len=ctx_len,
                max_tokens=tokens,
                sample=sample,
                batch_tokens=batch_tokens,
                device=device,
                seed=seed,
            )
            dtypes = dtype or ["float32", "bfloat16"]
            measured += measure(f"{shape}, {ctx_len}", config, dtypes, folder / shape)
    parameters = {
        "tokens": tokens,
        "sample": sample,
        "batch-tokens": batch_tokens,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device or "default",
        "seed": seed,
    }
    report("scan.indexing", parameters, measured, save)


if __name__ == "__main__":
    run(main)
