"""Copies a run from one store to another: the copy has the same content hash, or is not made."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

from sqlalchemy import Engine

from indexer.errors import NeurariumError
from indexer.store.database import open_store
from indexer.store.runs import delete_run, list_runs
from indexer.store.transfer.heads import read_heads
from indexer.store.transfer.records import (
    read_blocks,
    read_contexts,
    read_record,
    run_row,
)
from indexer.store.writing.records import NeuronBlock
from indexer.store.writing.run import write_run

Progress = Callable[[int], None]
"""Called with the number of neurons so far."""


def copy_run(source: Engine, run_id: int, target: Engine, progress: Progress) -> int:
    """Copy a run, and return its number in the other store.

    Raises NeurariumError if the stores are the same or the target has the run already; nothing is
    written then, nor if the copy's hash differs.
    """
    with _reading(source).connect() as connection:
        row = run_row(connection, run_id)
        check_new(target, row.model, row.content_hash)
        blocks = counted(read_blocks(connection, row), progress)
        record, contexts = read_record(connection, row), read_contexts(connection, run_id)
        heads = read_heads(connection, row)
        written = write_run(target, record, blocks, contexts, heads)
        return checked(target, written, row.content_hash)


def check_new(target: Engine, model: str, content_hash: str) -> None:
    """Raises NeurariumError if a store has the run already."""
    for other in list_runs(target):
        with target.connect() as there:
            known = run_row(there, other.id)
        if (known.model, known.content_hash) == (model, content_hash):
            raise NeurariumError(
                f"The database has this run already: run {other.id} of {model}. Nothing was "
                "written."
            )


def pack_run(source: Engine, run_id: int, file: Path, progress: Progress) -> None:
    """Write a run into an SQLite file of its own, which needs no other file. Raises NeurariumError
    if the file exists or cannot be named in an address; it appears when it is complete."""
    if "?" in str(file):
        raise NeurariumError(
            f"{file} has a question mark, which a database's address cannot have: choose another "
            "name."
        )
    if file.exists():
        raise NeurariumError(f"{file} exists already: remove it, or name another with --out.")
    partial = file.with_name(f"{file.name}.partial")
    for old in (partial, *_beside(partial)):
        old.unlink(missing_ok=True)
    try:
        target = open_store(f"sqlite:///{partial}", create=True)
        try:
            copy_run(source, run_id, target, progress)
        finally:
            target.dispose()
        # The folder may be read-only, so the file has no journal next to it.
        with closing(sqlite3.connect(partial)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
        partial.replace(file)
    finally:
        for left in (partial, *_beside(partial)):
            left.unlink(missing_ok=True)


def counted(blocks: Iterable[NeuronBlock], progress: Progress) -> Iterator[NeuronBlock]:
    """The same blocks; `progress` is called after each."""
    done = 0
    for block in blocks:
        yield block
        done += len(block)
        progress(done)


def checked(target: Engine, written: int, content_hash: str) -> int:
    """The run that was written, if it has this hash; otherwise it is deleted again.

    Raises NeurariumError.
    """
    with target.connect() as connection:
        made: str = run_row(connection, written).content_hash
    if made != content_hash:
        delete_run(target, written)
        raise NeurariumError(
            f"The copy has the content hash {made[:12]}, not {content_hash[:12]}: the run is "
            "damaged, or was written by another version. Nothing was written."
        )
    return written


def _reading(engine: Engine) -> Engine:
    """The engine with one state of the database for all that one connection reads."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ")
    return engine


def _beside(file: Path) -> list[Path]:
    return [file.with_name(file.name + end) for end in ("-wal", "-shm", "-journal")]
