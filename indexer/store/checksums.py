"""Checksums of the store's rows, by which readers notice damage.

Every row of a run carries a CRC-32 of its columns, keys included: a changed number, a flipped bit,
a truncated array and a row in another's place are all noticed when the row is read. CRC-32 notices
every change of up to three bits of a row, and 4,294,967,295 of 4,294,967,296 others. It guards
against faults, not against people. `check` in `check.py` is the proof: it hashes a whole run again.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import Boolean, Column, Connection, Float, Integer, Table, select

from indexer.errors import NeurariumError
from indexer.store import schema

_NEURON_TABLES = (
    *(schema.neurons, schema.neuron_arrays, schema.examples, schema.heads, schema.head_patterns),
)
_UNKNOWN = {"d": float("nan"), "q": -(1 << 63)}
"""What stands for NULL in a checksum, by the number's format."""
RESTORE = (
    "restore the database from a copy, or delete the run (`neurarium delete RUN`) and index again."
)
"""What an operator can do about a damaged run."""

Rows = TypeVar("Rows", bound=Sequence[Any])


class Damaged(NeurariumError):
    """Stored data that cannot be right. The message is for whoever runs the server."""

    def __init__(self, run: int, where: str, what: str) -> None:
        self.place = f"run {run}, table {where}: {what}"
        """Which row, and what is wrong with it."""
        super().__init__(
            f"Damaged data in {self.place}. `neurarium check {run}` lists all damage of the run: "
            f"{RESTORE}"
        )


class DamagedNote(Damaged):
    """A note that is not as it was written. Notes belong to no run."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.place = f"table notes: row id={number!r} is changed"
        NeurariumError.__init__(
            self,
            f"Damaged data in {self.place}. `neurarium check --all` lists all damage: "
            f"{without_notes([number])}",
        )


def without_notes(numbers: Sequence[int]) -> str:
    """What an operator can do about damaged notes."""
    return (
        "restore the database from a copy, or delete what is damaged: "
        f"DELETE FROM notes WHERE id IN ({', '.join(map(str, numbers))});"
    )


class Cover:
    """What a checksum covers: some columns of one table, among them its key."""

    def __init__(self, table: Table, checksum: str, names: Iterable[str]) -> None:
        self.table = table
        self.columns = [table.c[name] for name in names]
        self.checksum = table.c[checksum]
        self.selected: list[Column[Any]] = [*self.columns, self.checksum]
        """What a SELECT has to begin with, so that `check` takes its rows."""
        self.width = len(self.columns)
        numbers = [i for i, column in enumerate(self.columns) if _is_number(column)]
        self._format = "<" + "".join(
            "d" if isinstance(self.columns[i].type, Float) else "q" for i in numbers
        )
        self._pack = struct.Struct(self._format).pack
        self._numbers = _several(numbers)
        rest = [i for i in range(self.width) if i not in numbers]
        self._rest = _several(rest) if rest else None

    def of(self, values: Sequence[Any]) -> int:
        """The checksum of a row, given the values of `columns`; more may follow them.

        Raises TypeError, struct.error or ValueError for values that the columns cannot have.
        """
        numbers = self._numbers(values)
        try:
            content = self._pack(*numbers)
        except struct.error:
            if None not in numbers:
                raise
            # An unknown number is NULL.
            unknown = map(_UNKNOWN.__getitem__, self._format[1:])
            content = self._pack(
                *(
                    other if value is None else value
                    for value, other in zip(numbers, unknown, strict=True)
                )
            )
        crc = zlib.crc32(content)
        if self._rest is not None:
            for value in self._rest(values):
                content = value if type(value) is bytes else _bytes(value)
                crc = zlib.crc32(content, zlib.crc32(len(content).to_bytes(8, "little"), crc))
        return crc - (1 << 32) if crc >> 31 else crc

    def check(self, rows: Rows) -> Rows:
        """The same rows, of a SELECT that began with `selected`. Raises Damaged."""
        for row in rows:
            if not self.is_whole(row):
                raise self.damaged(row)
        return rows

    def is_whole(self, row: Sequence[Any]) -> bool:
        """Whether a row of such a SELECT has the checksum that is stored with it."""
        try:
            return bool(self.of(row) == row[self.width])
        except (TypeError, ValueError, struct.error):
            return False

    def damaged(self, row: Sequence[Any]) -> Damaged:
        """The error for a row whose checksum is wrong."""
        keys = {c.name: row[i] for i, c in enumerate(self.columns) if c.primary_key}
        return Damaged(_run_of(self.table, keys), self.table.name, f"{_named(keys)} is changed")


def missing(table: Table, **keys: Any) -> Damaged:
    """The error for a row that should be there, given its key."""
    return Damaged(_run_of(table, keys), table.name, f"{_named(keys)} is missing")


def damaged_vocabulary(connection: Connection, vocabulary_id: int) -> Damaged:
    """The error for a vocabulary whose tokens do not have the hash that is stored with it."""
    runs = schema.runs
    first = select(runs.c.id).where(runs.c.vocabulary_id == vocabulary_id).order_by(runs.c.id)
    table = schema.vocabulary.name
    what = f"the tokens with vocabulary_id={vocabulary_id} are changed"
    return Damaged(connection.scalar(first.limit(1)) or 0, table, what)


@cache
def cover(table: Table, checksum: str = "checksum") -> Cover:
    """What a table's checksum covers."""
    if table is schema.contexts:
        if checksum == "neurons_checksum":
            return Cover(table, checksum, ("run_id", "context_id", "neurons"))
        left_out = {"neurons", *_checksums(table)}
    else:
        left_out = set(_checksums(table))
    return Cover(table, checksum, [c.name for c in table.c if c.name not in left_out])


def covers(table: Table) -> list[Cover]:
    """All of a table's checksums."""
    return [cover(table, name) for name in _checksums(table)]


def with_checksums(table: Table, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows, with the values of all columns but the checksums, completed by those."""
    given = [column.name for column in table.c if column.name not in _checksums(table)]
    parts = []
    for one in covers(table):
        places = [given.index(column.name) for column in one.columns]
        if places == list(range(len(given))):
            parts.append([one.of(row) for row in rows])
        else:
            take = itemgetter(*places)
            parts.append([one.of(take(row)) for row in rows])
    if not parts:
        return list(rows)
    return [(*row, *sums) for row, sums in zip(rows, zip(*parts, strict=True), strict=True)]


def vocabulary_identity(vocabulary: Iterable[bytes]) -> str:
    """A hash of the tokens; tokenizers with equal tokens share a vocabulary."""
    content = hashlib.blake2b(digest_size=32)
    for token in vocabulary:
        content.update(struct.pack("<I", len(token)) + token)
    return content.hexdigest()


@cache
def _checksums(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.c if column.name.endswith("checksum"))


def _is_number(column: Column[Any]) -> bool:
    return isinstance(column.type, Integer | Float | Boolean)


def _several(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """The values at places as a tuple, also for a single place."""
    if list(places) == list(range(len(places))):
        end = len(places)
        return lambda values: tuple(values[:end])
    if len(places) == 1:
        (place,) = places
        return lambda values: (values[place],)
    return itemgetter(*places)


def _bytes(value: Any) -> bytes:
    """A text, a time, a JSON value or NULL as bytes, the same from both databases."""
    if isinstance(value, datetime):
        value = value.astimezone(UTC).isoformat()
    elif isinstance(value, bytearray | memoryview):
        return bytes(value)
    return json.dumps(value, sort_keys=True).encode()


def _named(keys: dict[str, Any]) -> str:
    return "row " + ", ".join(f"{name}={value!r}" for name, value in keys.items())


def _run_of(table: Table, keys: dict[str, Any]) -> int:
    """The run that a row belongs to, by its key."""
    first = next(iter(keys.values()))
    if not isinstance(first, int):
        return 0
    return schema.run_of(first) if table in _NEURON_TABLES else first
