"""The `neurarium` command. A user's mistake is one line and exit code 2, never a traceback."""

from __future__ import annotations

import os
import socket
import sys
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from app.settings import Settings
from indexer.errors import NeurariumError

app = typer.Typer(
    name="neurarium",
    help="Every neuron of a language model, shown through the text that fires it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_UsageError: Any = typer.BadParameter.__base__  # what every misuse of a command raises
_UNWRAPPED = 10_000  # columns: what goes to a file or a pipe is not broken into lines
out = Console(width=None if sys.stdout.isatty() else _UNWRAPPED)
err = Console(stderr=True)

Database = Annotated[
    str | None,
    typer.Option(
        help="sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME. "
        "Default: $NEURARIUM_DATABASE_URL, or a file in your data folder."
    ),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port. Default: 8000.")]


def main() -> None:
    """The command's entry point."""
    try:
        code = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except _UsageError as error:
        _fail(f"{error.format_message().rstrip('.')}. See `neurarium --help`.")
    except NeurariumError as error:
        _fail(str(error))
    except SQLAlchemyError as error:
        from indexer.store.database import unusable

        _fail(unusable(error, "named"))
    except OSError as error:  # a folder that may not be written, a disk that is full, …
        _fail(f"{error.strerror or error}: {error.filename or 'the system'} refused.")
    sys.exit(code or 0)


def _fail(message: str) -> NoReturn:
    line = " ".join(message.split())
    err.print(f"[bold red]Error:[/] {_escaped(line)}", highlight=False, soft_wrap=True)
    sys.exit(2)


@app.command()
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
            help="A hub data set name[:config], or a local .txt, .jsonl (also .gz, .zst), "
            ".parquet, .csv, or a folder of such. Default: the model's own, where it has one."
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
    ctx_len: Annotated[int, typer.Option(help="Tokens in a context, the BOS counted.")] = 128,
    max_tokens: Annotated[
        int | None, typer.Option(help="Stop reading the corpus after so many tokens.")
    ] = None,
    top_k: Annotated[int, typer.Option(help="Top examples a neuron.")] = 20,
    bottom_k: Annotated[int, typer.Option(help="Bottom examples a neuron.")] = 10,
    sample: Annotated[int, typer.Option(help="Contexts in the uniform sample.")] = 1024,
    window: Annotated[
        int | None,
        typer.Option(
            help="Positions kept of an example, round its peak. Default: the whole context."
        ),
    ] = None,
    batch_tokens: Annotated[int, typer.Option(help="Positions in one forward pass.")] = 4096,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32, bfloat16 or float16. Default: float32 on CPU, else the checkpoint's."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …")] = None,
    database: Database = None,
    seed: Annotated[int, typer.Option(help="Seed of the hash that draws the sample.")] = 0,
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
) -> None:
    """Index a model over a corpus: one page a neuron."""
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
    settings = _settings(database)
    _index(config, settings)
    out.print("Serve it with: [bold]neurarium serve[/]" + _database_option(database))


@app.command()
def demo(database: Database = None, host: Host = None, port: Port = None) -> None:
    """Index the bundled model over the bundled corpus, unless that is done, and serve it."""
    from indexer.config import IndexConfig
    from indexer.store.runs import is_indexed

    settings = _settings(database, host, port)
    if not is_indexed(_open(settings, create=True), "demo"):
        _index(IndexConfig(model="demo"), settings)
    _serve(settings)


@app.command()
def serve(
    database: Database = None,
    host: Host = None,
    port: Port = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Let visitors try texts of their own: loads the models of the runs when asked.",
        ),
    ] = False,
) -> None:
    """Serve the pages and the JSON API."""
    settings = _settings(database, host, port)
    _serve(settings.model_copy(update={"live": True}) if live else settings)


@app.command()
def runs(database: Database = None) -> None:
    """List the runs in the database."""
    from indexer.store.runs import list_runs

    table = Table(box=None, pad_edge=False)
    for column in ("run", "model", "hook point", "corpus", "dtype", "neurons", "tokens", "made"):
        right = column in ("run", "neurons", "tokens")
        table.add_column(column, justify="right" if right else "left", no_wrap=column != "corpus")
    found = list_runs(_open(_settings(database), create=False))
    for run in found:
        table.add_row(
            str(run.id),
            _escaped(run.model),
            run.hook_point,
            _escaped(run.corpus),
            run.dtype,
            f"{run.neurons:,}",
            f"{run.tokens:,}",
            f"{run.created_at:%Y-%m-%d}",
        )
    out.print(table if found else "No runs yet: make one with `neurarium index demo`.")


@app.command()
def delete(
    run: Annotated[int, typer.Argument(min=1, help="The run's number: see `neurarium runs`.")],
    database: Database = None,
) -> None:
    """Delete a run and all that belongs to it."""
    from indexer.store.runs import delete_run

    if not delete_run(_open(_settings(database), create=False), run):
        raise NeurariumError(f"There is no run {run}: `neurarium runs` lists them.")
    out.print(f"Run {run} is deleted.")


def _index(config: Any, settings: Settings) -> None:
    # transformers would ask a service of the hub, in a thread, to convert weights that are old.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    from app.progress import ConsoleReporter
    from indexer.plan import readable_bytes
    from indexer.run import index as run_index

    try:
        with ConsoleReporter(out) as reporter:
            outcome = run_index(config, settings.database_url, settings.cache_dir, reporter)
    except KeyboardInterrupt:
        err.print("Stopped: nothing was written to the database.")
        raise typer.Exit(130) from None
    seconds = outcome.seconds
    rate = outcome.plan.tokens / max(seconds["scan"], 1e-9)
    out.print(
        f"Run {outcome.run_id}: {outcome.plan.neurons:,} neurons of {_escaped(outcome.model)} "
        f"over {outcome.plan.tokens:,} tokens. Prepared in {seconds['prepare']:.1f} s, scanned in "
        f"{seconds['scan']:.1f} s ({rate:,.0f} tokens/s), written in {seconds['write']:.1f} s; "
        f"peak memory {readable_bytes(outcome.peak_memory)}.",
        highlight=False,
    )
    out.print(f"First page: {_address(settings)}/{outcome.model}/0/0", highlight=False)


def _serve(settings: Settings) -> None:
    import uvicorn

    from app.main import create_app

    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_level="warning"))
    with _listening(settings) as listening:
        bound = settings.model_copy(update={"port": listening.getsockname()[1]})
        out.print(f"Neurarium is at {_address(bound)} (Ctrl-C stops it)", highlight=False)
        server.run(sockets=[listening])


def _listening(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:  # a name that leads nowhere has a number of its own, below 0
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise NeurariumError(
            f"{settings.host}:{settings.port} cannot be listened on ({reason}): choose another "
            "with --port or --host (NEURARIUM_PORT, NEURARIUM_HOST)."
        ) from None
    # Inherited by every connection: else the end of an answer may wait 40 ms for the visitor to
    # acknowledge its beginning.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _settings(database: str | None, host: str | None = None, port: int | None = None) -> Settings:
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"NEURARIUM_{first['loc'][0]}".upper()
        raise NeurariumError(f"{name} is {first['input']!r}: {first['msg']}.") from None
    given = {"database_url": database, "host": host, "port": port}
    return settings.model_copy(
        update={field: value for field, value in given.items() if value is not None}
    )


def _open(settings: Settings, *, create: bool) -> Any:
    from indexer.store.database import open_store

    return open_store(settings.database_url, create=create)


def _address(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{settings.port}"


def _database_option(database: str | None) -> str:
    return f" --database {_escaped(database)}" if database else ""


def _escaped(value: object) -> str:
    from rich.markup import escape

    return escape(str(value))
