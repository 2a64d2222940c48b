"""The `neurarium` command. A user's mistake gives one line and exit code 2, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from app.cli.check import check
from app.cli.console import (
    Database,
    Host,
    Port,
    address_of,
    database_name,
    err,
    escaped,
    open_store_of,
    out,
    say,
    settings_of,
    wait_for_writing,
)
from app.cli.index import index, merge, run_index, verify
from app.cli.notes import notes_app
from app.cli.transfer import copy, export, import_run, pack
from app.cli.upgrade import upgrade
from app.sets import name_of
from app.settings import Settings, first_clause
from indexer.errors import NeurariumError

app = typer.Typer(
    name="neurarium",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

_LONGEST = 2_000
"""Most characters of an error's line: an error may quote a file or an argument of any length."""
_UsageError: Any = typer.BadParameter.__base__  # the base of all errors in how a command is called


def main() -> None:
    """The command's entry point."""
    try:
        code = app(args=sys.argv[1:] or ["--help"], prog_name="neurarium", standalone_mode=False)
    except _UsageError as error:
        message = first_clause(error.format_message()).rstrip(".")
        command = getattr(error.ctx, "command_path", "neurarium")
        _fail(f"{message}{'' if message.endswith('?') else '.'} See `{command} --help`.")
    except NeurariumError as error:
        _fail(str(error))
    except SQLAlchemyError as error:
        from indexer.store.failures import unusable

        _fail(unusable(error, "given"))
    except OSError as error:  # a folder without write permission, a full disk, …
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}.")
    sys.exit(code or 0)


def _fail(message: str) -> NoReturn:
    line = " ".join(message.split())
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
    err.print(f"[bold red]Error:[/] {escaped(line)}", highlight=False, soft_wrap=True)
    sys.exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        out.print(f"neurarium {version('neurarium')}", highlight=False)
        raise typer.Exit


@app.callback()
def neurarium(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Every neuron, latent and head of a language model, shown through the text that
    activates it."""


app.command()(index)


@app.command()
def demo(
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Index the attention heads too, and those of a bundled attention-only model that "
            "has induction heads.",
        ),
    ] = False,
    database: Database = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Index the bundled model over the bundled corpus if that is not done yet, and serve it."""
    from indexer.config import IndexConfig
    from indexer.demo import ATTENTION_ONLY, DICTIONARIES, bundled_name
    from indexer.store.runs import list_runs
    from indexer.store.units import HEADS, NEURONS

    settings = settings_of(database, host, port)
    runs = list_runs(open_store_of(settings, create=True))
    ours = [run for run in runs if (run.model, run.model_id, run.corpus) == ("demo",) * 3]
    sets = {run.set_name for run in ours}
    missing = [] if NEURONS in sets else [IndexConfig(model="demo")]
    for path in DICTIONARIES:
        if path.stem not in sets:
            missing.append(IndexConfig(model="demo", dictionary=bundled_name(path)))
    if everything and HEADS not in sets:
        missing.append(IndexConfig(model="demo", heads=True))
    if missing:
        run_index(missing, settings)
    if everything and not any(run.model == ATTENTION_ONLY.name for run in runs):
        model = str(bundled_name(ATTENTION_ONLY))
        run_index([IndexConfig(model=model, corpus="demo", heads=True)], settings)
    _serve(settings)


@app.command()
def serve(
    database: Database = None,
    host: Host = None,
    port: Port = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            help="Processes that serve pages, such as one for each core. Default: "
            "$NEURARIUM_WORKERS, or 1.",
        ),
    ] = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Let visitors run the models on their own text. A model is loaded on first use.",
        ),
    ] = False,
    model_path: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="Where a model is now that was moved since it was indexed, by its name in URLs. "
            "Needs --live; may be repeated.",
        ),
    ] = None,
    dictionary_path: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="Where a dictionary is now that was moved since it was indexed, by its model's "
            "and its set's name in URLs, such as gpt2/sae-resid-pre. Needs --live; may be "
            "repeated.",
        ),
    ] = None,
    notes: Annotated[
        bool,
        typer.Option(
            "--notes",
            help="Show notes on neurons; who has $NEURARIUM_NOTES_TOKEN can write them.",
        ),
    ] = False,
) -> None:
    """Serve the pages and the JSON API."""
    settings = settings_of(database, host, port)
    switches = {"live": live, "notes": notes}
    settings = settings.model_copy(update={name: True for name, on in switches.items() if on})
    if workers is not None:
        settings = settings.model_copy(update={"workers": workers})
    moved: dict[str, dict[str, Any]] = {
        "model_paths": {
            name: Path(path).expanduser()
            for name, path in _moved("--model-path", model_path, live=settings.live)
        },
        "dictionary_paths": dict(_moved("--dictionary-path", dictionary_path, live=settings.live)),
    }
    known = settings.model_dump(include=set(moved))
    settings = settings.model_copy(update={name: known[name] | moved[name] for name in moved})
    _serve(settings)


_EXAMPLES = {
    "--model-path": "gpt2=/models/gpt2",
    "--dictionary-path": "gpt2/sae-resid-pre=/dictionaries/gpt2",
}


def _moved(option: str, given: list[str] | None, *, live: bool) -> Iterator[tuple[str, str]]:
    """Reads NAME=PATH, several paths of dictionaries separated by commas. Raises NeurariumError."""
    for text in given or ():
        if not live:
            raise NeurariumError(f"{option} needs --live: only live models are loaded.")
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise NeurariumError(
                f"{option} {text} is not recognised: write NAME=PATH, such as {_EXAMPLES[option]}."
            )
        for part in path.split(",") if option == "--dictionary-path" else [path]:
            if not Path(part).expanduser().exists():
                raise NeurariumError(f"{option} {text}: there is no folder or file {part}.")
        yield name, path


@app.command()
def runs(database: Database = None) -> None:
    """List the runs in the database."""
    from indexer.store.runs import list_runs

    table = Table(box=None, pad_edge=False)
    columns = (
        "run",
        "name",
        "model",
        "set",
        "hook point",
        "corpus",
        "dtype",
        "units",
        "tokens",
        "made",
    )
    for column in columns:
        right, long = column in ("run", "units", "tokens"), column in ("model", "corpus")
        table.add_column(column, justify="right" if right else "left", no_wrap=not long)
    settings = settings_of(database)
    listed = list_runs(open_store_of(settings, create=False))
    for run in listed:
        table.add_row(
            str(run.id),
            escaped(run.model),
            escaped(run.model_id),
            run.set_name,
            run.hook_point,
            escaped(run.corpus),
            run.dtype,
            f"{run.neurons:,}",
            f"{run.tokens:,}",
            f"{run.created_at:%Y-%m-%d}",
        )
    if listed:
        out.print(table)
    else:
        message = f"No runs yet in {database_name(settings)}: make one with `neurarium index`."
        out.print(escaped(message), highlight=False, soft_wrap=True)


@app.command()
def delete(
    run: Annotated[int, typer.Argument(min=1, help="The run's number: see `neurarium runs`.")],
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    database: Database = None,
) -> None:
    """Delete a run with all its data, after asking."""
    from indexer.store.runs import delete_run, list_runs

    store = open_store_of(settings_of(database), create=False)
    info = next((listed for listed in list_runs(store) if listed.id == run), None)
    if info is None:
        raise NeurariumError(f"There is no run {run}: `neurarium runs` lists all runs.")
    named = f"{name_of(info.model, info.set_name)} over {info.corpus}"
    if not yes:
        _ask(f"Delete run {run} ({named}) with all its data?")
    wait_for_writing(store, alone=True)
    if not delete_run(store, run):
        raise NeurariumError(f"There is no run {run}: `neurarium runs` lists all runs.")
    out.print(f"Deleted run {run} ({escaped(named)}).", highlight=False, soft_wrap=True)


app.command()(check)
app.command()(export)
app.command("import")(import_run)
app.command()(copy)
app.command()(pack)
app.command()(merge)
app.command()(upgrade)
app.command()(verify)
app.add_typer(notes_app)


def _ask(question: str) -> None:
    """Ask the user; anything but yes ends the command. Raises NeurariumError without a terminal."""
    if not sys.stdin.isatty():
        raise NeurariumError(f"{question} Nobody can be asked here: add --yes if you mean it.")
    if not typer.confirm(question):
        out.print("Nothing was deleted.")
        raise typer.Exit(1)


def _serve(settings: Settings) -> None:
    from app.main import create_app
    from app.serving import processes
    from app.serving.server import (
        collect_less,
        compile_templates,
        listening,
        server_of,
        with_names,
    )
    from indexer.reporter import waiting

    settings = with_names(settings)
    with waiting(say, "the database"):
        app = create_app(settings)
    with listening(settings) as opened:
        bound = settings.model_copy(update={"port": opened.getsockname()[1]})
        if app.state.site.read_only:
            notes = app.state.notes is not None and not app.state.notes.writable
            rest = ", and nobody can write or delete notes" if notes else ""
            say(f"{database_name(settings)} is read-only: it is served as it is{rest}.")
        out.print(f"Neurarium is at {address_of(bound)} (press Ctrl-C to stop)", highlight=False)
        if settings.workers > 1:
            # They were opened to be checked: each process has its own.
            app.state.site.store.close()
            if app.state.notes is not None:
                app.state.notes.close()
            processes.serve(settings, opened, say)
            return
        server = server_of(app, settings)
        collect_less()
        compile_templates(app)
        server.run(sockets=[opened])
