"""The `neurarium` command. A user's mistake is one line and exit code 2, never a traceback."""

from __future__ import annotations

import gc
import os
import socket
import sys
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from app.cli.console import (
    Database,
    Host,
    Port,
    address_of,
    err,
    escaped,
    missing_file,
    open_store_of,
    out,
    settings_of,
    shown_of,
)
from app.cli.index import index, merge, run_index, verify
from app.cli.notes import notes_app
from app.settings import Settings
from indexer.errors import NeurariumError

app = typer.Typer(
    name="neurarium",
    help="Every neuron of a language model, shown through the text that fires it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
GRACE = 5
"""Seconds that Ctrl-C waits for requests that are still open."""
_NEW_OBJECTS = 20_000
"""After so many more objects Python looks for cycles among them; a page leaves none behind."""

_UsageError: Any = typer.BadParameter.__base__  # what every misuse of a command raises


def main() -> None:
    """The command's entry point."""
    try:
        code = app(args=sys.argv[1:] or ["--help"], prog_name="neurarium", standalone_mode=False)
    except _UsageError as error:
        said = error.format_message().rstrip(".")
        command = getattr(error.ctx, "command_path", "neurarium")
        _fail(f"{said}{'' if said.endswith('?') else '.'} See `{command} --help`.")
    except NeurariumError as error:
        _fail(str(error))
    except SQLAlchemyError as error:
        from indexer.store.database import unusable

        _fail(unusable(error, "named"))
    except OSError as error:  # a folder that may not be written, a disk that is full, …
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}.")
    sys.exit(code or 0)


def _fail(message: str) -> NoReturn:
    line = " ".join(message.split())
    err.print(f"[bold red]Error:[/] {escaped(line)}", highlight=False, soft_wrap=True)
    sys.exit(2)


def _version(asked: bool) -> None:
    if asked:
        out.print(f"neurarium {version('neurarium')}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """What stands before a command's name."""


app.command()(index)


@app.command()
def demo(database: Database = None, host: Host = None, port: Port = None) -> None:
    """Index the bundled model over the bundled corpus, unless that is done, and serve it."""
    from indexer.config import IndexConfig
    from indexer.store.runs import list_runs

    settings = settings_of(database, host, port)
    runs = list_runs(open_store_of(settings, create=True))
    if not any((run.model, run.model_id, run.corpus) == ("demo",) * 3 for run in runs):
        run_index(IndexConfig(model="demo"), settings)
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
    notes: Annotated[
        bool,
        typer.Option(
            "--notes",
            help="Show notes on neurons, and keep those of whoever has $NEURARIUM_NOTES_TOKEN.",
        ),
    ] = False,
) -> None:
    """Serve the pages and the JSON API."""
    settings = settings_of(database, host, port)
    asked = {"live": live, "notes": notes}
    _serve(settings.model_copy(update={name: True for name, on in asked.items() if on}))


@app.command()
def runs(database: Database = None) -> None:
    """List the runs in the database."""
    from indexer.store.runs import list_runs

    table = Table(box=None, pad_edge=False)
    columns = ("run", "name", "model", "hook point", "corpus", "dtype", "neurons", "tokens", "made")
    for column in columns:
        right, long = column in ("run", "neurons", "tokens"), column in ("model", "corpus")
        table.add_column(column, justify="right" if right else "left", no_wrap=not long)
    settings = settings_of(database)
    found = list_runs(open_store_of(settings, create=False))
    for run in found:
        table.add_row(
            str(run.id),
            escaped(run.model),
            escaped(run.model_id),
            run.hook_point,
            escaped(run.corpus),
            run.dtype,
            f"{run.neurons:,}",
            f"{run.tokens:,}",
            f"{run.created_at:%Y-%m-%d}",
        )
    if found:
        out.print(table)
    else:
        none = f"No runs yet in {shown_of(settings)}: make one with `neurarium index`."
        out.print(escaped(none), highlight=False, soft_wrap=True)


@app.command()
def delete(
    run: Annotated[int, typer.Argument(min=1, help="The run's number: see `neurarium runs`.")],
    database: Database = None,
) -> None:
    """Delete a run and all that belongs to it."""
    from indexer.store.runs import delete_run, list_runs

    store = open_store_of(settings_of(database), create=False)
    found = next((one for one in list_runs(store) if one.id == run), None)
    if not delete_run(store, run):
        raise NeurariumError(f"There is no run {run}: `neurarium runs` lists them.")
    what = f", {escaped(found.model)} over {escaped(found.corpus)}," if found else ""
    out.print(f"Run {run}{what} is deleted.", highlight=False, soft_wrap=True)


app.command()(merge)
app.command()(verify)
app.add_typer(notes_app)


def _serve(settings: Settings) -> None:
    import uvicorn

    from app.main import create_app

    missing = missing_file(settings)
    # Without a limit Ctrl-C waits for as long as any visitor leaves a request open.
    config = uvicorn.Config(
        create_app(settings), log_level="warning", timeout_graceful_shutdown=GRACE
    )
    server = uvicorn.Server(config)
    with _listening(settings) as listening:
        bound = settings.model_copy(update={"port": listening.getsockname()[1]})
        if missing:
            none = f"There was no database at {missing}: an empty one has been made."
            err.print(escaped(none), highlight=False, soft_wrap=True)
        out.print(f"Neurarium is at {address_of(bound)} (Ctrl-C stops it)", highlight=False)
        _collect_less()
        server.run(sockets=[listening])


def _collect_less() -> None:
    """Spare the pages Python's search for cycles: there are none in a page's many objects, and
    what was loaded before the first page stays, so that to look it through is a pause for nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


def _listening(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:  # a name that leads nowhere has a number of its own, below 0
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else str(error.strerror).partition(" (")[0]
        raise NeurariumError(
            f"{settings.host}:{settings.port} cannot be listened on ({reason}): choose another "
            "with --port or --host (NEURARIUM_PORT, NEURARIUM_HOST), or see whether a Neurarium is "
            "there already."
        ) from None
    # Inherited by every connection: else the end of an answer may wait 40 ms for the visitor to
    # acknowledge its beginning.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
