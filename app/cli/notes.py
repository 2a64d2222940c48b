"""`neurarium notes`: export notes as JSON lines, and import them."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import Database, escaped, open_store_of, out, settings_of, wait_for_writing
from app.notes.rules import line_of, note_of
from indexer.errors import NeurariumError
from indexer.store.notes import Note

notes_app = typer.Typer(
    name="notes", help="Export and import notes on neurons as JSON lines, one note per line."
)


@notes_app.command("export")
def export_notes(
    file: Annotated[Path, typer.Argument(help="Where to write; - is standard output.")] = Path("-"),
    database: Database = None,
) -> None:
    """Export all notes, oldest first."""
    from indexer.store import notes

    engine = open_store_of(settings_of(database), create=False)
    lines = (f"{line_of(note)}\n".encode() for note in notes.walk(engine))
    try:
        if str(file) == "-":
            sys.stdout.buffer.writelines(lines)
            sys.stdout.buffer.flush()
        else:
            with file.open("wb") as output:
                count = sum(1 for line in lines if output.write(line))
            out.print(f"Wrote {_notes(count)} to {escaped(file)}.", soft_wrap=True)
    finally:
        engine.dispose()


@notes_app.command("import")
def import_notes(
    file: Annotated[
        Path,
        typer.Argument(
            help="Lines as `neurarium notes export` writes them; those without a time or author "
            "get this time and your login's name."
        ),
    ],
    database: Database = None,
) -> None:
    """Import notes from a file, skipping those already in the database. If a line is wrong, nothing
    is imported."""
    from indexer.store import notes

    engine = open_store_of(settings_of(database), create=False)
    try:
        wait_for_writing(engine)
        notes.prepare(engine)
        with file.open("rb") as lines:
            added, present = notes.merge(engine, _read(file, lines))
    finally:
        engine.dispose()
    skipped = f", skipped {present:,} already in the database" if present else ""
    out.print(f"Added {_notes(added)}{skipped}.")


def _read(file: Path, lines: Iterable[bytes]) -> Iterator[Note]:
    defaults = {"time": datetime.now(UTC).isoformat(), "author": getpass.getuser()}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield note_of(line, defaults)
        except ValueError as error:
            raise NeurariumError(
                f"Line {number:,} of {file} cannot be read: {error} Nothing was imported."
            ) from None


def _notes(count: int) -> str:
    return f"{count:,} {'note' if count == 1 else 'notes'}"
