"""The commands that take runs away and bring them back: `export`, `import`, `copy` and `pack`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from app.cli.console import (
    Database,
    err,
    escaped,
    open_store_of,
    out,
    settings_of,
    wait_for_writing,
)
from app.cli.options import parse_whole
from indexer.errors import NeurariumError, quoted

_RUN = typer.Argument(
    metavar="RUN", help="A run's number (see `neurarium runs`) or a model's name."
)
Run = Annotated[str, _RUN]
_FORMATS = ("jsonl", "parquet", "csv", "openai", "neuronpedia", "safetensors", "site")


def export(
    run: Run,
    format: Annotated[str, typer.Option(help=f"{', '.join(_FORMATS)}.")] = "jsonl",
    out_path: Annotated[
        Path,
        typer.Option("--out", help="The file or folder to write; - is standard output."),
    ] = Path("-"),
    layers: Annotated[
        str | None, typer.Option(help="Only these layers, such as 0-2,5. Default: all.")
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            help="Only the neurons of a search by statistics, such as 'max>3 density<10%'. "
            "Default: all."
        ),
    ] = None,
    listed: Annotated[
        str | None,
        typer.Option("--list", help="Only these neurons, such as 1/10,1/349. Default: all."),
    ] = None,
    fields: Annotated[
        str | None,
        typer.Option(
            help="Only these fields, such as layer,stats.max for jsonl and layer,max for csv. "
            "Default: all."
        ),
    ] = None,
    database: Database = None,
) -> None:
    """Export a run, or some of its neurons, to files."""
    from app.export.choice import Choice

    if format not in _FORMATS:
        raise NeurariumError(f"There is no format {format!r}: choose {', '.join(_FORMATS)}.")
    choice = Choice(layers, query, listed)
    with _explained(), _reading(database, run) as (engine, reading), _reporting(out_path) as shown:
        from app.export.write import notes_of

        if format == "site":
            from app.publishing.site import publish

            if fields is not None:
                raise NeurariumError("--fields is for jsonl and csv: a site has whole pages.")
            count = publish(reading, out_path, choice, notes_of(engine, reading), shown.stage)
        else:
            from app.export.write import Request
            from app.export.write import export as write

            request = Request(cast("Any", format), out_path, choice, fields)
            notes = notes_of(engine, reading)
            count = write(reading, request, notes, shown.stage)
    if str(out_path) != "-":
        nouns = f"{reading.units.noun}s" if count > 1 else reading.units.noun
        line = f"Wrote {count:,} {nouns} to {escaped(out_path)}."
        out.print(line, highlight=False, soft_wrap=True)


def import_run(
    path: Annotated[Path, typer.Argument(help="A .jsonl file, or a folder of NeuronRecords.")],
    format: Annotated[str, typer.Option(help="jsonl (of `neurarium export`) or openai.")] = "jsonl",
    name: Annotated[
        str | None,
        typer.Option(help="The model's name in URLs. Default: its own, or the folder's."),
    ] = None,
    database: Database = None,
) -> None:
    """Import a run from files that `neurarium export` or OpenAI's tools wrote."""
    if format not in ("jsonl", "openai"):
        raise NeurariumError(f"There is no format {format!r} to import: choose jsonl, openai.")
    if not path.exists():
        raise NeurariumError(f"There is nothing at {path}: check the path.")
    if path.is_dir() != (format == "openai"):
        kind = "a folder of LAYER/NEURON.json" if format == "openai" else "a file"
        raise NeurariumError(f"{path} is not {kind}, which --format {format} reads.")
    with _target(database) as engine, _reporting(Path()) as shown:
        progress = shown.stage("Importing", None, "units")
        if format == "jsonl":
            from indexer.importing.lines import import_lines

            number = import_lines(path, engine, name, progress)
        else:
            from indexer.importing.openai import import_records

            number = import_records(path, engine, name, progress)
    out.print(f"Imported as run {number}.", highlight=False)


def copy(
    run: Run,
    to: Annotated[
        str,
        typer.Option(
            help="The other database: sqlite:///FILE or "
            "postgresql+psycopg://USER:PASSWORD@HOST/NAME."
        ),
    ],
    database: Database = None,
) -> None:
    """Copy a run to another database."""
    from indexer.store.transfer.copying import copy_run

    with (
        _reading(database, run) as (engine, reading),
        _target(to) as target,
        _reporting(Path()) as shown,
    ):
        progress = shown.stage("Copying", len(reading.places), f"{reading.units.noun}s")
        number = copy_run(engine, reading.run.id, target, progress)
    out.print(f"Copied as run {number}, with the same content hash.", highlight=False)


def pack(
    run: Run,
    out_path: Annotated[Path, typer.Option("--out", help="The file to write, such as run.db.")],
    database: Database = None,
) -> None:
    """Write a run into an SQLite file of its own, which can be sent."""
    from indexer.store.transfer.copying import pack_run

    with _reading(database, run) as (engine, reading), _reporting(Path()) as shown:
        progress = shown.stage("Packing", len(reading.places), f"{reading.units.noun}s")
        pack_run(engine, reading.run.id, out_path, progress)
    # Read-only: a server that may write would change the file.
    address = escaped(shlex.quote(f"sqlite:///file:{out_path}?mode=ro&uri=true"))
    out.print(
        f"Wrote {escaped(out_path)}. Open it with: [bold]neurarium serve --database {address}[/]",
        highlight=False,
        soft_wrap=True,
    )


@contextmanager
def _reading(database: str | None, run: str) -> Iterator[tuple[Any, Any]]:
    """The store's engine, and the run opened for reading. Raises NeurariumError."""
    from app.reading.runs import run_of_id
    from app.reading.store import Store
    from app.sets import ModelSet

    engine = open_store_of(settings_of(database), create=False)
    store = Store(engine)
    try:
        with _explained(), store.connect() as connection:
            model, number = run, None
            if run.isdecimal():
                number = parse_whole(run)
                if number is None:  # of more digits than any number that is stored
                    raise NeurariumError(
                        f"There is no run {quoted(run)}: `neurarium runs` lists all runs."
                    )
                model = run_of_id(connection, number)
            yield (
                engine,
                store.open(connection, ModelSet.parse(model) if number is None else model, number),
            )
    finally:
        store.close()


@contextmanager
def _target(database: str | None) -> Iterator[Any]:
    """The engine of a store to write a run to. If the store is made here and the run does not get
    into it, its file is removed. Raises NeurariumError."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    from indexer.store.files import file_of

    settings = settings_of(database)
    file = None
    with suppress(ArgumentError):  # `open_store_of` reports a wrong address
        file = file_of(make_url(settings.database_url))
    missing = file is not None and not file.exists()
    engine = open_store_of(settings, create=True)
    try:
        wait_for_writing(engine)
        yield engine
    except BaseException:
        engine.dispose()
        if missing:
            for path in (f"{file}", f"{file}-wal", f"{file}-shm"):
                Path(path).unlink(missing_ok=True)
        raise
    engine.dispose()


@contextmanager
def _explained() -> Iterator[None]:
    """Turn an error of a page into one of the command line."""
    from app.errors import AppError

    try:
        yield
    except AppError as error:
        raise NeurariumError(str(error)) from None


@contextmanager
def _reporting(path: Path) -> Iterator[Any]:
    """Shows progress; on standard error if the output goes to standard output."""
    from app.cli.progress import ConsoleReporter

    console: Console = err if str(path) == "-" else out
    with ConsoleReporter(console) as reporter:
        yield reporter
