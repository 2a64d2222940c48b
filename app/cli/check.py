"""The command `check`: whether what is stored of a run is what was written."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli.console import Database, escaped, open_store_of, out, settings_of
from app.cli.options import whole_number
from indexer.errors import NeurariumError


def check(
    run: Annotated[
        int | None,
        typer.Argument(help="The run's number: see `neurarium runs`.", **whole_number(1)),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Check all runs in the database.")] = False,
    database: Database = None,
) -> None:
    """Read a whole run and compare it with its checksums and its content hash, without its model;
    also the notes on its model. Exit code 1 if anything is damaged."""
    from app.cli.progress import ConsoleReporter
    from indexer.store.check import check_run, run_ids
    from indexer.store.notes import damaged as damaged_notes

    if (run is None) != every:
        raise NeurariumError("Name a run, or --all: `neurarium runs` lists all runs.")
    engine = open_store_of(settings_of(database), create=False)
    damaged = False
    model = None
    try:
        for run_id in run_ids(engine) if run is None else [run]:
            with ConsoleReporter(out) as reporter:
                report = check_run(engine, run_id, reporter)
            _print(report)
            damaged |= report.damaged
            model = report.model if run else None
        with engine.connect() as connection:
            notes = damaged_notes(connection, model)
        _print_notes(notes)
        damaged |= bool(notes)
    finally:
        engine.dispose()
    raise typer.Exit(1 if damaged else 0)


def _print_notes(damaged: list[Any]) -> None:
    from indexer.store.checksums import without_notes

    if damaged:
        count = f"{len(damaged):,} {'note is' if len(damaged) == 1 else 'notes are'}"
        what = without_notes([note.number for note in damaged])
        _say([f"{count} damaged.", *(note.place for note in damaged[:20]), f"What to do: {what}"])


def _print(report: Any) -> None:
    from indexer.store.checksums import RESTORE

    name = f"Run {report.run} ({report.model})"
    if not report.damaged:
        lines = [f"{name}: all rows are as written; content hash {report.found_hash}."]
    else:
        content_hash = report.found_hash or "cannot be computed"
        lines = [f"{name} is damaged.", *report.places]
        if report.count > len(report.places):
            lines.append(f"… and {report.count - len(report.places):,} more places.")
        if report.found_hash != report.stored_hash:
            lines.append(
                f"Content hash: {report.stored_hash} when it was written, now {content_hash}."
            )
        lines.append(f"What to do: {RESTORE}")
    _say(lines)


def _say(lines: list[str]) -> None:
    for line in lines:
        out.print(escaped(line), highlight=False, soft_wrap=True)
