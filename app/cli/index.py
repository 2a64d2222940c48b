"""The commands that index: `index`, `merge` what was indexed in shards, and `verify` a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.console import Database, address_of, err, escaped, open_store_of, out, settings_of
from app.cli.options import whole_number
from app.settings import Settings

WHOLE = whole_number()
State = Annotated[
    Path | None, typer.Option(help="Folder of the run's checkpoints. Default: one in the cache.")
]
Memory = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        help="Gigabytes the scan may hold beside the model: where that is too little for all "
        "layers at once, it goes over the corpus several times. Default: most of what is free.",
    ),
]


def index(
    model: Annotated[
        str,
        typer.Argument(
            help="demo, a Hugging Face id, a local folder, a .gguf file, or one of Neuroscope's "
            "names such as gelu-1l, solu-4l-pile, gpt2-small, pythia-70m."
        ),
    ],
    corpus: Annotated[
        str | None,
        typer.Option(
            help="A hub data set name[:config], or a local file of plain text (.txt, .md, .py, …), "
            ".jsonl (also .gz, .zst), .csv, .tsv, .parquet or .arrow, or a folder of such files. "
            "Default: the model's own, where it has one."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name in URLs.")] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or training checkpoint of the model.")
    ] = None,
    hook_point: Annotated[
        str | None,
        typer.Option(help="mlp.hook_post, mlp.hook_pre or, for SoLU models, mlp.ln.hook_in."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a hub data set.")] = "train",
    text_column: Annotated[str | None, typer.Option(help="Column that holds the text.")] = None,
    source_column: Annotated[
        str | None, typer.Option(help="Column that names a document's sub-corpus.")
    ] = None,
    ctx_len: Annotated[
        int, typer.Option(help="Tokens in a context, the BOS counted.", **WHOLE)
    ] = 128,
    max_tokens: Annotated[
        int | None, typer.Option(help="Stop reading the corpus after so many tokens.", **WHOLE)
    ] = None,
    top_k: Annotated[int, typer.Option(help="Top examples a neuron.", **WHOLE)] = 20,
    bottom_k: Annotated[int, typer.Option(help="Bottom examples a neuron.", **WHOLE)] = 10,
    sample: Annotated[int, typer.Option(help="Contexts in the uniform sample.", **WHOLE)] = 1024,
    window: Annotated[
        int | None,
        typer.Option(
            help="Positions kept of an example, round its peak. Default: the whole context.",
            **WHOLE,
        ),
    ] = None,
    batch_tokens: Annotated[
        int, typer.Option(help="Positions in one forward pass.", **WHOLE)
    ] = 4096,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32, bfloat16 or float16. Default: float32 on CPU, else the checkpoint's."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …")] = None,
    database: Database = None,
    seed: Annotated[int, typer.Option(help="Seed of the hash that draws the sample.", **WHOLE)] = 0,
    connections: Annotated[
        bool,
        typer.Option(
            help="Whether to compare every neuron's weights with every other's: neurons alike, "
            "upstream and downstream. The time goes with the square of their number."
        ),
    ] = True,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code from the model's repository.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew where a run was stopped before its end.")
    ] = False,
    state: State = None,
    memory: Memory = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="2/8: scan the second of eight shares and leave it in --state, for "
            "`neurarium merge`."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            **whole_number(1),
            help="Processes that scan, each with a model of its own: one a GPU, or a share of the "
            "cores. Needs the extra ray. Default: 1; on a cluster one a GPU, or one a machine.",
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of a Ray cluster whose machines scan, or auto on one of them. "
            "Default: this machine alone."
        ),
    ] = None,
) -> None:
    """Index a model over a corpus: one page a neuron.

    Stopped or killed, the same command carries on from its last checkpoint.
    """
    from indexer.config import IndexConfig

    config = IndexConfig(
        model=model,
        corpus=corpus,
        name=name,
        revision=revision,
        hook_point=hook_point,
        split=split,
        text_column=text_column,
        source_column=source_column,
        ctx_len=ctx_len,
        max_tokens=max_tokens,
        top_k=top_k,
        bottom_k=bottom_k,
        sample=sample,
        window=window,
        batch_tokens=batch_tokens,
        dtype=dtype,
        device=device,
        seed=seed,
        connections=connections,
        trust_remote_code=trust_remote_code,
    )
    settings = settings_of(database)
    _check(config, shard, settings)
    execution = _execution(
        restart=restart, state=state, memory=memory, workers=workers, ray_address=ray_address
    )
    if shard is not None:
        _scan_shard(config, shard, settings, execution)
        return
    run_index(config, settings, execution)
    command = "Serve it with: [bold]neurarium serve[/]" + _database_option(database)
    out.print(command, highlight=False, soft_wrap=True)


def _check(config: Any, shard: str | None, settings: Settings) -> None:
    """Refuse mistakes in the arguments before the model libraries are imported, which takes
    seconds. Raises NeurariumError."""
    from indexer.run.shard import Shard
    from indexer.scan.question import ask, check_columns

    question = ask(config)
    if shard is not None:
        Shard.parse(shard)
    else:
        open_store_of(settings, create=True).dispose()
    check_columns(question)


def merge(
    state: Annotated[Path, typer.Argument(help="The folder all shards were given as --state.")],
    database: Database = None,
    memory: Memory = None,
) -> None:
    """Put the shards of a run together and write it."""
    from app.cli.progress import ConsoleReporter
    from indexer.run.shards import merge as merge_shards

    settings = settings_of(database)
    with _stoppable(), ConsoleReporter(out) as reporter:
        outcome = merge_shards(
            state, settings.database_url, settings.cache_dir, reporter, _execution(memory=memory)
        )
    _tell(outcome, settings)
    out.print(f"{escaped(state)} is not needed any more.", highlight=False, soft_wrap=True)


def verify(
    run: Annotated[
        int, typer.Argument(help="The run's number: see `neurarium runs`.", **whole_number(1))
    ],
    neurons: Annotated[
        int, typer.Option(help="Random neurons whose examples to recompute.", **WHOLE)
    ] = 200,
    contexts: Annotated[
        int, typer.Option(help="Random contexts to hold against the lists of all neurons.", **WHOLE)
    ] = 2000,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Draws both. Default: another each time, printed.",
            **whole_number(0),
        ),
    ] = None,
    model_path: Annotated[
        Path | None, typer.Option(help="Where the run's model is now, if its folder was moved.")
    ] = None,
    corpus_path: Annotated[
        Path | None, typer.Option(help="Where the run's corpus is now, if it was moved.")
    ] = None,
    database: Database = None,
) -> None:
    """Recompute a part of a run with its model, loaded anew. Exit code 1 if anything is wrong."""
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    from app.cli.progress import ConsoleReporter
    from app.web.urls import neuron as address
    from indexer.verify.report import report_lines
    from indexer.verify.run import verify as verify_run

    settings = settings_of(database)
    engine = open_store_of(settings, create=False)
    try:
        with ConsoleReporter(out) as reporter:
            stored, findings = verify_run(
                engine,
                run,
                settings.cache_dir,
                reporter,
                neurons=neurons,
                contexts=contexts,
                seed=seed,
                model_path=model_path,
                corpus_path=corpus_path,
            )
    except KeyboardInterrupt:
        err.print("Stopped.")
        raise typer.Exit(130) from None
    finally:
        engine.dispose()
    for line in report_lines(findings, partial(address, stored.model, run=run)):
        out.print(escaped(line), highlight=False, soft_wrap=True)
    raise typer.Exit(1 if findings.count else 0)


def _execution(*, memory: float | None = None, **given: Any) -> Any:
    from indexer.config import Execution

    return Execution(memory=None if memory is None else int(memory * 1e9), **given)


@contextmanager
def _stoppable() -> Iterator[None]:
    """A user's wish to stop is no error: one line, and the exit code of an interrupt."""
    # transformers would ask a service of the hub, in a thread, to convert weights that are old.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    from indexer.run.stopping import Stopped

    try:
        yield
    except Stopped as stopped:
        err.print(escaped(stopped), highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        err.print(
            "Stopped: the database is as it was. The same command carries on from the last "
            "checkpoint, or begins where there is none yet.",
            soft_wrap=True,
        )
        raise typer.Exit(130) from None


def _scan_shard(config: Any, shard: str, settings: Settings, execution: Any) -> None:
    from app.cli.progress import ConsoleReporter
    from indexer.run.shard import Shard
    from indexer.run.shards import scan_shard

    with _stoppable(), ConsoleReporter(out) as reporter:
        one = Shard.parse(shard)
        folder = scan_shard(config, one, settings.cache_dir, reporter, execution)
    out.print(
        f"Shard {one.number} of {one.count} is done. When all are: "
        f"neurarium merge {escaped(folder)}",
        highlight=False,
        soft_wrap=True,
    )


def run_index(config: Any, settings: Settings, execution: Any = None) -> None:
    """Index, and say how it went."""
    from app.cli.progress import ConsoleReporter
    from indexer.run.index import index as index_model

    with _stoppable(), ConsoleReporter(out) as reporter:
        outcome = index_model(
            config, settings.database_url, settings.cache_dir, reporter, execution
        )
    _tell(outcome, settings)


def _tell(outcome: Any, settings: Settings) -> None:
    from indexer.memory import readable_bytes

    # A run that was killed when all was written is neither scanned nor written again.
    seconds = {"scan": 0.0, "write": 0.0} | outcome.seconds
    # Of a run that was carried on, the time is that of its last part alone.
    rate = outcome.plan.tokens / max(seconds["scan"], 1e-9)
    speed = "" if outcome.carried_on else f" ({rate:,.0f} tokens/s)"
    out.print(
        f"Run {outcome.run_id}: {outcome.plan.neurons:,} neurons of {escaped(outcome.model)} "
        f"over {outcome.plan.tokens:,} tokens. Prepared in {seconds['prepare']:.1f} s, scanned in "
        f"{seconds['scan']:.1f} s{speed}, written in {seconds['write']:.1f} s; "
        f"peak memory {readable_bytes(outcome.peak_memory)}.",
        highlight=False,
        soft_wrap=True,
    )
    first = f"First page: {address_of(settings)}/{outcome.model}/0/0"
    out.print(first, highlight=False, soft_wrap=True)
    for warning in outcome.warnings:
        err.print(escaped(warning), highlight=False, soft_wrap=True)


def _database_option(database: str | None) -> str:
    return f" --database {escaped(database)}" if database else ""
