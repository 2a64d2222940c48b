"""How large the compressed batches of an Arrow file are when unpacked, read from its messages
without unpacking any: Arrow itself allocates whatever they say.

The format: https://arrow.apache.org/docs/format/Columnar.html#recordbatch-message, in FlatBuffers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_MAGIC = b"ARROW1\0\0"
"""In front of the stream in the format for files."""


class BatchSize(NamedTuple):
    """Bytes of one batch."""

    packed: int
    unpacked: int


def batch_sizes(mapped: pa.MemoryMappedFile) -> Iterator[BatchSize]:
    """The sizes of a file's compressed batches and dictionaries. Raises `pa.ArrowInvalid` if the
    file is damaged."""
    mapped.seek(0)
    mapped.seek(len(_MAGIC) if mapped.read(len(_MAGIC)) == _MAGIC else 0)
    try:
        for message in pa.ipc.MessageReader.open_stream(mapped):
            if message.body is None:
                continue
            size = _size(_Table.root(message.metadata.to_pybytes()), message.body)
            if size is not None:
                yield size
    except (struct.error, IndexError) as error:
        raise pa.ArrowInvalid(f"a message is damaged ({error})") from None


def _size(message: _Table, body: pa.Buffer) -> BatchSize | None:
    """The size of a message that is a compressed batch, else None."""
    kind, batch = message.byte(1), message.table(2)
    if kind == _DICTIONARY_BATCH and batch is not None:
        batch = batch.table(1)
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH) or batch is None or batch.table(3) is None:
        return None
    packed = unpacked = 0
    for offset, length in batch.pairs(2):
        if length < 8:
            continue
        (size,) = struct.unpack_from("<q", body, offset)
        packed += length
        unpacked += max(size, length)  # −1: not compressed after all
    return BatchSize(packed, unpacked)


class _Table(NamedTuple):
    """A table in a FlatBuffer."""

    data: bytes
    start: int

    @classmethod
    def root(cls, data: bytes) -> _Table:
        """The outermost table."""
        return cls(data, cls._number(data, "I", 0))

    @staticmethod
    def _number(data: bytes, code: str, place: int) -> int:
        (value,) = struct.unpack_from(f"<{code}", data, place)
        return int(value)

    def _place(self, field: int) -> int | None:
        """Where a field is; None if it has its default."""
        entries = self.start - self._number(self.data, "i", self.start)
        if 4 + 2 * field >= self._number(self.data, "H", entries):
            return None
        offset = self._number(self.data, "H", entries + 4 + 2 * field)
        return self.start + offset if offset else None

    def byte(self, field: int) -> int:
        """A field of one byte."""
        place = self._place(field)
        return 0 if place is None else self.data[place]

    def table(self, field: int) -> _Table | None:
        """A field that is a table, or None."""
        place = self._place(field)
        return None if place is None else _Table(self.data, self._target(place))

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """A field that is a list of pairs of 64-bit integers."""
        place = self._place(field)
        if place is None:
            return []
        start = self._target(place)
        count = self._number(self.data, "I", start)
        return [struct.unpack_from("<qq", self.data, start + 4 + 16 * i) for i in range(count)]

    def _target(self, place: int) -> int:
        return place + self._number(self.data, "I", place)
