"""Lines and documents of JSON lines files, compressed or not, with a bound on what a line may hold
in memory."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import zstandard

from indexer.corpus.rows import (
    BrokenRow,
    Columns,
    Document,
    ReadReport,
    RequestedColumns,
    choose_columns,
    kinds_of_rows,
)
from indexer.errors import NeurariumError

MAX_LINE_BYTES = 32 << 20
"""The longest line that is read."""
_MAX_VALUES = 2_000_000
"""Values in a line of JSON: each takes up to some hundred bytes of memory, and two in the file."""
_BEGIN_VALUES = b",[{"
_CHECKED_BYTES = 8 << 20
_MAX_RATIO = 300
"""A file that unpacks to more than this many times its size is refused, once it has given this many
bytes: empty lines without end would be read for hours. Text is compressed to a tenth."""
BOM = b"\xef\xbb\xbf"
_BUFFER_BYTES = 1 << 20
_PACKED_BYTES = 1 << 12
"""Compressed bytes handed to zstandard at once: they give 128 MiB at most, whatever the file."""
_FIRST_ROWS = 100
_FIRST_BYTES = 8 << 20
"""If the first row does not settle which column is the text, this many rows or bytes do."""


def json_documents(
    path: Path, wanted: RequestedColumns, report: ReadReport, source: str | None
) -> Iterator[Document]:
    """The documents of a JSON lines file. Raises NeurariumError."""
    columns: Columns | None = None
    waiting: list[tuple[int, Mapping[str, Any]]] = []
    waiting_bytes = 0

    def document(number: int, row: Mapping[str, Any]) -> Iterator[Document]:
        assert columns is not None
        try:
            yield columns.document(row, source)
        except BrokenRow as error:
            report.broken(f"{path}, line {number}", str(error))

    for number, line in enumerate(lines(path), start=1):
        if not line.strip():
            continue
        report.lines_read += 1
        try:
            row = _json_object(line)
        except BrokenRow as error:
            report.broken(f"{path}, line {number}", str(error))
            continue
        if columns is not None:
            yield from document(number, row)
            continue
        waiting.append((number, row))
        waiting_bytes += len(line)
        last = len(waiting) >= _FIRST_ROWS or waiting_bytes >= _FIRST_BYTES
        if last:
            columns = _choose(waiting, wanted, path)
            for first in waiting:
                yield from document(*first)
            waiting.clear()
    if waiting:
        columns = _choose(waiting, wanted, path)
        for first in waiting:
            yield from document(*first)


def _choose(
    waiting: list[tuple[int, Mapping[str, Any]]], wanted: RequestedColumns, path: Path
) -> Columns:
    """The columns, by several rows: any of them may lack one. Raises NeurariumError."""
    rows = [row for _, row in waiting]
    return choose_columns(rows, kinds_of_rows(rows), wanted, str(path))


def _json_object(line: bytes) -> dict[str, object]:
    if sum(line.count(mark) for mark in _BEGIN_VALUES) > _MAX_VALUES:
        values = _values(line)  # a text may have as many commas
        if values > _MAX_VALUES:
            raise BrokenRow(f"{values:,} values, of at most {_MAX_VALUES:,}")
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise BrokenRow(f"not UTF-8 (byte {error.start} of the line)") from None
    except json.JSONDecodeError as error:
        raise BrokenRow(f"not JSON ({error})") from None
    except RecursionError:
        raise BrokenRow("lists or objects inside each other without end") from None
    except ValueError:  # Python's advice is how to read it all the same
        raise BrokenRow("a whole number of thousands of digits") from None
    if isinstance(row, list) and row and all(isinstance(one, dict) for one in row):
        raise BrokenRow("a list of objects: write each on a line of its own")
    if not isinstance(row, dict):
        raise BrokenRow("not a JSON object")
    return row


def _values(line: bytes) -> int:
    """How many values begin outside the strings of a line of JSON."""
    plain = line.replace(rb"\\", b"").replace(rb"\"", b"")
    content = np.frombuffer(plain, np.uint8)
    outside = ~np.logical_xor.accumulate(content == ord(b'"'))
    return sum(int(np.count_nonzero((content == mark) & outside)) for mark in _BEGIN_VALUES)


def lines(path: Path) -> Iterator[bytes]:
    """The decompressed lines of a file with their ends, without a byte order mark. Raises
    NeurariumError for a damaged file and a line of over `MAX_LINE_BYTES`."""
    number = given = 0
    unchecked = 0
    try:
        with path.open("rb") as packed, _opened(path, packed) as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise NeurariumError(
                        f"{path}, line {number} is longer than {MAX_LINE_BYTES >> 20} MiB: split "
                        "it into several documents, or check that the file has the right format."
                    )
                unchecked += len(line)
                if unchecked >= _CHECKED_BYTES:
                    given, unchecked = given + unchecked, 0
                    _check_ratio(path, given, packed.tell())
                yield line.removeprefix(BOM) if number == 1 else line
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise NeurariumError(f"{path} is damaged ({error}): download it again.") from None


def _check_ratio(path: Path, given: int, taken: int) -> None:
    if given > _MAX_RATIO * taken:
        raise NeurariumError(
            f"{path}: its first {taken:,} bytes unpack to {given / 1e6:.0f} MB, which is neither "
            "text nor token ids: leave the file out, or write it again."
        )


@contextmanager
def _opened(path: Path, packed: BinaryIO) -> Iterator[BinaryIO | io.BufferedReader | gzip.GzipFile]:
    """The decompressed bytes of the file that is open as `packed`."""
    name = path.name.lower()
    if name.endswith(".gz"):
        with gzip.open(packed) as unzipped:
            yield unzipped
    elif name.endswith(".zst"):
        yield io.BufferedReader(_Decompressed(packed), _BUFFER_BYTES)
    else:
        yield packed


class _Decompressed(io.RawIOBase):
    """The decompressed bytes of all zstandard frames of a file. Raises EOFError for a truncated
    frame, which the library itself takes for the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame: Any = None
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._packed = self._packed or self._file.read(_PACKED_BYTES)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("it ends too early")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._ready = memoryview(self._frame.decompress(self._packed))
            self._packed = self._frame.unused_data if self._frame.eof else b""
            self._frame = None if self._frame.eof else self._frame
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count
