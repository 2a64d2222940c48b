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
        record = lines.header(first)
        if name is not None:
            record = replace(record, model=name)
        check_name(record.model)
        check_new(engine, record.model, first["content_hash"])
        neurons = lines.neurons(record)
        made = counted((block_of(part) for part in blocks(neurons)), progress)
        run_id = write_run(engine, record, made, lines.contexts(), lines.heads(record))
        return checked(engine, run_id, first["content_hash"])


class _Lines:
    """The lines of a file, read once: neurons first, then contexts."""

    def __init__(self, opened: Any, file: Path, look: Callable[[dict[str, Any]], None]) -> None:
        self._lines = enumerate(opened, 1)
        self._file, self._look = file, look
        self._number = 0
        self._named: set[int] = set()
        """The contexts that examples are from, and that are still to come."""
        self._heads: list[HeadRecord] = []
        self._scores: list[dict[str, float | None]] = []

    def header(self, line: dict[str, Any]) -> RunRecord:
        """The record of the run, from the first line. Raises NeurariumError."""
        record: RunRecord = self._read(record_of, line)
        if not isinstance(line.get("content_hash"), str):
            raise self._refused("it has no content_hash")
        return record

    def next(self) -> dict[str, Any] | None:
        """The next line, or None at the end. Raises NeurariumError."""
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

    def neurons(self, record: RunRecord) -> Iterator[StoredNeuron]:
        """The neurons of the run, in order. Raises NeurariumError if one is missing or wrong."""
        for layer, width in enumerate(record.widths):
            for neuron in range(width):
                line = self.next()
                if line is None or line.get("type") == "context":
                    raise self._incomplete(f"layer {layer}'s {record.units.noun} {neuron}")
                self._check(line, "neuron")
                if (line.get("layer"), line.get("neuron")) != (layer, neuron):
                    raise self._refused(f"the next has to be {layer}/{neuron}")
                made: StoredNeuron = self._read(neuron_of, line)
                for examples in made.kinds.values():
                    self._named.update(examples.context_ids.tolist())
                yield made
                if record.set_name == HEADS:
                    head: HeadRecord = self._read(lambda line: head_of(line["head"]), line)
                    self._heads.append(head)
                    self._scores.append(line["head"]["scores"])

    def heads(self, record: RunRecord) -> Callable[[], HeadRecords] | None:
        """What the lines of attention heads have besides, known when all have been read; None in a
        run of other units."""
        if record.set_name != HEADS:
            return None
        return lambda: HeadRecords(
            self._heads, columns_of(self._scores, record.widths), record.provenance["heads"]
        )

    def contexts(self) -> Iterator[ContextRecord]:
        """The contexts of all examples. Raises NeurariumError if one is missing."""
        while (line := self.next()) is not None:
            self._check(line, "context")
            made: ContextRecord = self._read(context_of, line)
            self._named.discard(made.context_id)
            yield made
        if self._named:
            raise self._incomplete(f"context {min(self._named)}, which examples are from")

    def _read(self, make: Callable[[dict[str, Any]], Any], line: dict[str, Any]) -> Any:
        try:
            return make(line)
        except (KeyError, ValueError, TypeError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise self._refused(what) from None

    def _check(self, line: dict[str, Any], kind: str) -> None:
        """Raises NeurariumError for a line of another kind."""
        if line.get("type") != kind:
            raise self._refused(f"its type has to be {kind}, and is {line.get('type')!r:.40}")

    def _refused(self, what: str) -> NeurariumError:
        return NeurariumError(
            f"Line {self._number:,} of {self._file} cannot be read ({what}): it has to be a whole "
            "run's. Nothing was imported."
        )

    def _incomplete(self, what: str) -> NeurariumError:
        return NeurariumError(
            f"{self._file} lacks {what}, and what follows: it is cut off after line "
            f"{self._number:,}. Export the run again. Nothing was imported."
        )
