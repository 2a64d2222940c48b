"""Writes exports to disk: whole or not at all, under another name until they are complete."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from indexer.errors import NeurariumError
from indexer.store.writing.ahead import ahead

Progress = Callable[[int], None]
"""Called with the number of neurons so far."""
STANDARD_OUTPUT = Path("-")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name at the end. Raises NeurariumError if `path` exists."""
    with _new(path) as partial:
        partial.mkdir(parents=True)
        yield partial


@contextmanager
def new_file(path: Path) -> Iterator[Any]:
    """A binary file to write, which gets its name at the end; `-` is standard output.

    Raises NeurariumError if `path` exists.
    """
    if path == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with _new(path) as partial:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            yield file


def check_new(path: Path) -> None:
    """Raises NeurariumError if there is something at `path`."""
    if path != STANDARD_OUTPUT and path.exists():
        raise NeurariumError(f"{path} exists already: remove it, or name another with --out.")


@contextmanager
def _new(path: Path) -> Iterator[Path]:
    check_new(path)
    partial = path.with_name(f"{path.name}.partial")
    _remove(partial)
    try:
        yield partial
        partial.replace(path)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_lines(path: Path, lines: Iterable[bytes], progress: Progress) -> None:
    """Write a line for each neuron. Raises NeurariumError if the file exists."""
    with new_file(path) as file:
        for number, line in enumerate(lines, 1):
            file.write(line)
            progress(number)


def write_parquet(
    path: Path, tables: Any, ranges: Any, more: Iterable[tuple[str, Any]], progress: Progress
) -> None:
    """Write the tables of a run (`app.export.parquet.Tables`) as a folder of Parquet files, `more`
    of them as they are. Raises NeurariumError if the folder exists."""
    import pyarrow.parquet as pq

    from app.export.columns import DICTIONARIES, SCHEMAS

    with new_folder(path) as folder:
        writers = {
            name: pq.ParquetWriter(
                folder / f"{name}.parquet",
                schema,
                compression="zstd",
                use_dictionary=DICTIONARIES[name],
            )
            for name, schema in SCHEMAS.items()
        }
        try:
            done = 0
            with closing(ahead(tables.of_neurons(ranges))) as made:
                for count, parts in made:
                    for name, table in parts:
                        writers[name].write_table(table)
                    done += count
                    progress(done)
            for name, table in tables.contexts():
                writers[name].write_table(table)
        finally:
            for writer in writers.values():
                writer.close()
        for name, table in more:
            pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
