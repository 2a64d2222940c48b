"""Reads a run from the lines that `neurarium export --format jsonl` wrote."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from indexer.config import check_name
from indexer.errors import NeurariumError
from indexer.store.transfer.copying import check_new, checked, counted
from indexer.store.transfer.heads import columns_of, head_of
from indexer.store.transfer.lines import blocks, context_of, loaded, neuron_of, record_of
from indexer.store.transfer.records import StoredNeuron, block_of
from indexer.store.units import HEADS
from indexer.store.writing.records import ContextRecord, HeadRecord, HeadRecords, RunRecord
from indexer.store.writing.run import write_run


def import_lines(
    file: Path,
    engine: Engine,
    name: str | None,
    progress: Callable[[int], None],
    look: Callable[[dict[str, Any]], None] = lambda line: None,
) -> int:
    """Write the run in a file to a store, and return its number; `name` None: the model's own name.
    `look` is called with each line and may refuse it.

    Raises NeurariumError, with nothing written, if a line cannot be read or the content hash is
    not the one that the file names.
    """
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
        lines = _Lines(opened, file, look)
        first = lines.next()
        if first is None:
            raise NeurariumError(f"{file} is empty.")
        record = record_of(first)
        if name is not None:
            record = replace(record, model=name)
        check_name(record.model)
        check_new(engine, record.model, first["content_hash"])
        neurons = lines.neurons()
        made = counted((block_of(part) for part in blocks(neurons)), progress)
        run_id = write_run(engine, record, made, lines.contexts(), lines.heads(record))
        return checked(engine, run_id, first["content_hash"])


class _Lines:
    """The lines of a file, read once: neurons first, then contexts."""

    def __init__(self, opened: Any, file: Path, look: Callable[[dict[str, Any]], None]) -> None:
        self._lines = enumerate(opened, 1)
        self._file, self._look = file, look
        self._held: dict[str, Any] | None = None
        self._number = 0
        self._heads: list[HeadRecord] = []
        self._scores: list[dict[str, float | None]] = []

    def next(self) -> dict[str, Any] | None:
        """The next line, or None at the end."""
        if self._held is not None:
            held, self._held = self._held, None
            return held
        try:
            for number, content in self._lines:
                self._number = number
                if content.strip():
                    line = loaded(content, self._number, self._file)
                    self._look(line)
                    return line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise NeurariumError(
                f"{self._file} is cut off or damaged ({error}). Nothing was imported."
            ) from None
        return None

    def neurons(self) -> Iterator[StoredNeuron]:
        """The lines of neurons."""
        while (line := self.next()) is not None and line.get("type") == "neuron":
            yield self._read(neuron_of, line)
            if "head" in line:
                self._heads.append(self._read(head_of, line["head"]))
                self._scores.append(line["head"]["scores"])
        self._held = line

    def heads(self, record: RunRecord) -> Callable[[], HeadRecords] | None:
        """What the lines of attention heads have besides, known when all have been read; None in a
        run of other units."""
        if record.set_name != HEADS:
            return None
        return lambda: HeadRecords(
            self._heads, columns_of(self._scores, record.widths), record.provenance["heads"]
        )

    def contexts(self) -> Iterator[ContextRecord]:
        """The lines of contexts."""
        while (line := self.next()) is not None:
            yield self._read(context_of, line)

    def _read(self, make: Callable[[dict[str, Any]], Any], line: dict[str, Any]) -> Any:
        try:
            return make(line)
        except (KeyError, ValueError, TypeError) as error:
            raise NeurariumError(
                f"Line {self._number:,} of {self._file} cannot be read ({error}): it has to be a "
                "whole run's. Nothing was imported."
            ) from None
