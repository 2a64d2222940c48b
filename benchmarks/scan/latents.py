"""How fast latents are scanned, beside the least that must be computed, and SAEDashboard's way.

    python -m benchmarks.scan.latents demo gpt2 --threads 2 --save benchmarks/results/latents.json

`benchmarks/README.md` defines every figure.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track
from safetensors.torch import save_file

from benchmarks.results import Figure, Save, run
from benchmarks.rounds import Turn, interleave, quartiles, times_faster
from benchmarks.scan.inputs import (
    BatchTokens,
    Sample,
    Shapes,
    SmolLM2,
    Threads,
    Tokens,
    batches,
    check,
    model_of,
    ready,
    write_corpus,
)
from benchmarks.scan.ways import on_device, scanning
from benchmarks.tables import report
from indexer.config import IndexConfig
from indexer.corpus.batches import Batch
from indexer.models.latents import DictionaryLatents
from indexer.scan.job import Job
from indexer.scan.state import Scan

LEAST, SCAN = "trunk and encoder", "scan"
DASHBOARD = "SAEDashboard's way"
BatchTurn = Turn[str, Batch]


def save_dictionaries(
    folder: Path, config: IndexConfig, latents: int, l0: float, *, last_only: bool = True
) -> str:
    """Write random dictionaries of the residual stream after each layer, or the last one, with a
    threshold that lets `l0` latents fire at a position of the first batch; returns their paths."""
    job = ready(replace(config, hook_point="hook_resid_post"), folder)
    batch = next(batches(job))
    included = torch.from_numpy(batch.included)
    seen: list[torch.Tensor] = []
    job.model.capture(
        torch.from_numpy(batch.tokens),
        torch.from_numpy(batch.attention),
        lambda _, captured: seen.append(captured.activations.float().cpu()[included]),
    )
    torch.manual_seed(0)
    layers = range(len(seen))[-1:] if last_only else range(len(seen))
    paths = [folder / f"dictionary-{layer}.safetensors" for layer in layers]
    for path, layer in zip(paths, layers, strict=True):
        _save_dictionary(path, layer, seen[layer], latents, l0)
    return ",".join(map(str, paths))


def _save_dictionary(path: Path, layer: int, inputs: torch.Tensor, latents: int, l0: float) -> None:
    W_dec = torch.nn.functional.normalize(torch.randn(latents, inputs.shape[1]), dim=1)
    values = (inputs[:256] - inputs.mean(0)) @ W_dec.T
    least = float(values.flatten().kthvalue(int(values.numel() * (1 - l0 / latents))).values)
    tensors = {
        "W_enc": W_dec.T.contiguous(),
        "W_dec": W_dec,
        "b_dec": inputs.mean(0),
        "threshold": torch.full((latents,), least),
    }
    save_file(tensors, path, {"hook_point": f"blocks.{layer}.hook_resid_post"})


def least(job: Job) -> Callable[[Batch], None]:
    """The limit: the model's body, and the product of the stream with the encoder's matrix."""
    units = job.model.units
    assert isinstance(units, DictionaryLatents)
    (layer,) = units.dictionaries

    def run(batch: Batch) -> None:
        tokens, attention = on_device(batch, job.model.device)
        _stream(job, layer, tokens, attention) @ units.dictionaries[layer].W_enc

    return run


class Dashboard:
    """SAEDashboard's way, from its description: for each slice of latents a pass over all text, in
    which the model runs, the slice is encoded, and each latent's activations are ranked by context.
    """

    def __init__(self, job: Job, slice_of: int) -> None:
        self.job, self.slice_of = job, slice_of
        units = job.model.units
        assert isinstance(units, DictionaryLatents)
        ((self.layer, dictionary),) = units.dictionaries.items()
        self.b_in, self.W_enc = dictionary.b_in, dictionary.W_enc[:, :slice_of].contiguous()
        self.threshold = dictionary.threshold
        self.passes = -(-dictionary.latents // slice_of)
        self.best = torch.full((slice_of, job.shape.top_k), -torch.inf)

    def add(self, batch: Batch) -> None:
        """A batch of one slice's pass."""
        tokens, attention = on_device(batch, self.job.model.device)
        stream = _stream(self.job, self.layer, tokens, attention)
        values = (stream if self.b_in is None else stream - self.b_in) @ self.W_enc
        if self.threshold is not None:
            values = values * (values > self.threshold[: self.slice_of])
        values = values.masked_fill(~torch.from_numpy(batch.included)[:, :, None], -torch.inf)
        peaks = values.amax(dim=1).T
        self.best = torch.cat([self.best, peaks], dim=1).topk(self.best.shape[1], dim=1).values


def _stream(job: Job, layer: int, tokens: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """The residual stream after a layer, by one pass of the model's body."""
    units = job.model.units
    place = units.places[layer]
    assert place is not None
    seen: list[torch.Tensor] = []

    def keep(_module: object, _args: object, output: object) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)  # type: ignore[arg-type]

    handle = place.module.register_forward_hook(keep)
    with torch.inference_mode():
        job.model.trunk.run(tokens, attention_mask=attention)
    handle.remove()
    return seen[0].float()


def measure(name: str, job: Job, slice_of: int, others_every: int) -> list[Figure]:
    """Time every way on every batch; SAEDashboard's way on every n-th, and one of its passes."""
    dashboard = Dashboard(job, slice_of)
    ways: dict[str, Callable[[Batch], None]] = {
        LEAST: least(job),
        SCAN: scanning(job, Scan(job.shape, job.corpus.source_index)),
        DASHBOARD: dashboard.add,
    }
    ways[LEAST](next(batches(job)))  # the first call of a model is slow: not timed
    rounds = track(batches(job), name, len(job.plans), transient=True)
    turns = list(interleave(ways, rounds, 0, every={DASHBOARD: others_every}))
    return figures(name, turns, dashboard.passes)


def figures(name: str, turns: Sequence[BatchTurn], passes: int) -> list[Figure]:
    """Speeds as a share of the least: of the scan in the sample, the rest and the whole run; and
    how many times as long all passes of SAEDashboard's way take."""
    limits = [turn for turn in turns if turn.key == LEAST]
    rates = [int(turn.item.included.sum()) / turn.wall for turn in limits]
    measured = [Figure.of(f"{LEAST}, tokens/s", name, rates)]
    own = [turn for turn in turns if turn.key == SCAN]
    groups = {
        "sample": [turn for turn in own if turn.item.part != "rest"],
        "rest": [turn for turn in own if turn.item.part == "rest"],
    }
    for part, group in groups.items():
        if shares := times_faster([*limits, *group], SCAN, LEAST):
            measured.append(Figure.of(f"{SCAN}, {part}", name, shares, "×"))
    total = sum(turn.wall for turn in limits) / sum(turn.wall for turn in own)
    measured.append(Figure(f"{SCAN}, whole run", name, total, "×"))
    others = times_faster(turns, DASHBOARD, LEAST)
    longer = passes / quartiles(others)[1]
    named = f"{DASHBOARD}, {passes:,} passes, seconds ÷ the least's"
    return [*measured, Figure(named, name, longer)]


def main(
    shapes: Shapes,
    smollm2: SmolLM2 = None,
    latents: Annotated[int, typer.Option(min=64, help="Latents of the dictionary.")] = 16_384,
    l0: Annotated[float, typer.Option(min=1, help="Latents that fire at a position.")] = 64,
    slice_of: Annotated[int, typer.Option(min=1, help="Latents a pass of the other way.")] = 64,
    tokens: Tokens = 100_000,
    sample: Sample = 128,
    batch_tokens: BatchTokens = 4096,
    threads: Threads = None,
    others_every: Annotated[int, typer.Option(min=1, help="The other way's batches.")] = 4,
    save: Save = None,
) -> None:
    """Measure how fast latents are scanned, in float32 on the CPU."""
    check(shapes, threads)
    measured: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for shape in shapes:
            config = IndexConfig(
                model=model_of(shape, smollm2, folder, 0),
                corpus=str(write_corpus(folder, 128, tokens, 0)),
                max_tokens=tokens,
                sample=sample,
                batch_tokens=batch_tokens,
                device="cpu",
                dtype="float32",
            )
            dictionary = save_dictionaries(folder / shape, config, latents, l0)
            job = ready(replace(config, dictionary=dictionary), folder / shape)
            measured += measure(shape, job, slice_of, others_every)
    parameters = {
        "latents": latents,
        "l0": l0,
        "slice-of": slice_of,
        "tokens": tokens,
        "sample": sample,
        "batch-tokens": batch_tokens,
        "threads": torch.get_num_threads(),
    }
    report("scan.latents", parameters, measured, save)


if __name__ == "__main__":
    run(main)
