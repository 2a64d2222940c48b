"""Reads documents from local text, JSON lines, CSV and Parquet files, or a folder of these, holding
only the line or row group being read."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from indexer.corpus.rows import (
    BrokenRow,
    Columns,
    Document,
    ReadReport,
    RequestedColumns,
    choose_columns,
    kinds_of_row,
    kinds_of_schema,
    printable,
    table_documents,
)
from indexer.errors import NeurariumError

ENDINGS = (".txt", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".csv")
"""The supported kinds of file."""
KINDS = ", ".join(ENDINGS)

_MAGIC = {
    b"\x1f\x8b": ("gzip", ".gz"),
    b"\x28\xb5\x2f\xfd": ("zstandard", ".zst"),
    b"PAR1": ("Parquet", ".parquet"),
}
_CHUNK_BYTES = 1 << 20
_ROWS_BYTES = 8 << 20
"""Parquet rows are read in batches of about this size."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class FilesCorpus:
    """One local file, or the supported files below a folder in order of their paths."""

    label: str
    root: Path
    files: tuple[Path, ...]
    wanted: RequestedColumns = field(default_factory=RequestedColumns)
    report: ReadReport = field(default_factory=ReadReport, compare=False)

    @property
    def revision(self) -> None:
        """None: files have no commit."""
        return None

    @cached_property
    def identity(self) -> str:
        """A hash that changes when a file is added, removed, renamed or modified."""
        parts: list[object] = [str(self.root), self.wanted.text, self.wanted.source]
        for path in self.files:
            with _system_errors(path):
                stat = path.stat()
            parts.append([_relative(path, self.root), stat.st_size, stat.st_mtime_ns])
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def documents(self) -> Iterator[Document]:
        """All documents, file by file. Raises NeurariumError if a file cannot be read."""
        self.report.reset()
        for path in self.files:
            with _system_errors(path):
                yield from self._file_documents(path)
        self.report.check()

    def _file_documents(self, path: Path) -> Iterator[Document]:
        ending = _ending(path)
        check_magic(path, ending)
        source = _stem(path)  # for documents without a source column
        if ending == ".txt":
            yield Document(_text(path), None, source)
        elif ending == ".csv":
            yield from _csv_documents(path, self.wanted, self.report, source)
        elif ending == ".parquet":
            yield from _parquet_documents(path, self.wanted, source)
        else:
            yield from _json_documents(path, self.wanted, self.report, source)


def open_files(path: Path, wanted: RequestedColumns, label: str | None = None) -> FilesCorpus:
    """The corpus in an existing file or folder. Raises NeurariumError if no file is supported."""
    root = path.resolve()
    if root.is_dir():
        files = _usable_files(root)
        if not files:
            raise NeurariumError(f"The folder {path} has no supported files. Supported: {KINDS}.")
        counted = "1 file" if len(files) == 1 else f"{len(files)} files"
        return FilesCorpus(label or f"{printable(root.name)}/ ({counted})", root, files, wanted)
    if not _ending(root):
        raise NeurariumError(f"{path} is not a supported file. Supported: {KINDS}.")
    return FilesCorpus(label or printable(root.name), root, (root,), wanted)


def _usable_files(root: Path) -> tuple[Path, ...]:
    """The supported files below a folder, without hidden ones, in order of their paths."""
    paths: list[Path] = []
    for folder, subfolders, names in os.walk(root, onerror=_cannot_list):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        paths += [Path(folder, name) for name in names if not name.startswith(".")]
    return tuple(sorted((p for p in paths if _ending(p)), key=lambda p: _relative(p, root)))


def _cannot_list(error: OSError) -> None:
    raise NeurariumError(f"The folder {error.filename} cannot be read: {error.strerror}.")


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path != root else path.name


def _ending(path: Path) -> str:
    name = path.name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending)), "")


def _stem(path: Path) -> str:
    """The file's name without its ending; undecodable bytes become �."""
    return printable(path.name[: -len(_ending(path))] or path.name)


@contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NeurariumError(f"{path} cannot be read: {error.strerror or error}.") from error


def check_magic(path: Path, ending: str) -> None:
    """Raises NeurariumError if the first bytes of a file contradict its ending."""
    with path.open("rb") as file:
        start = file.read(8)
    actual = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
    expected = next((kind for kind in _MAGIC.values() if ending.endswith(kind[1])), None)
    if actual == expected or (
        expected is None and start.isascii() and start.decode().isprintable()
    ):
        return  # a text file may also begin with PAR1
    if not start:
        raise NeurariumError(f"{path} is empty: it should be a {ending} file of documents.")
    if expected is None and actual is not None:
        raise NeurariumError(
            f"{path} is a {actual[0]} file despite its name: rename it to end in {actual[1]}."
        )
    if expected is not None:
        raise NeurariumError(
            f"{path} is not a {expected[0]} file despite its name: rename or replace it."
        )


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        offset = error.start + len(_BOM) * data.startswith(_BOM)
        raise _not_utf8(path, offset) from None


def _not_utf8(path: Path, offset: int) -> NeurariumError:
    return NeurariumError(
        f"{path} is not UTF-8 text (byte {offset}): convert it to UTF-8, or remove it."
    )


# --- JSON lines ---


def _json_documents(
    path: Path, wanted: RequestedColumns, report: ReadReport, source: str | None
) -> Iterator[Document]:
    columns: Columns | None = None
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        report.lines_read += 1
        try:
            row = _json_object(line)
            columns = columns or choose_columns(row, kinds_of_row(row), wanted, str(path))
            document = columns.document(row, source)
        except BrokenRow as error:
            report.broken(f"{path}, line {number}", str(error))
        else:
            yield document


def _json_object(line: bytes) -> dict[str, object]:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise BrokenRow(f"not UTF-8 (byte {error.start} of the line)") from None
    except (ValueError, RecursionError) as error:
        raise BrokenRow(f"not JSON ({error})") from None
    if not isinstance(row, dict):
        raise BrokenRow("not a JSON object")
    return row


def _lines(path: Path) -> Iterator[bytes]:
    """The decompressed lines of a file, without a byte order mark."""
    openers: dict[str, Callable[[Path], Iterator[bytes]]] = {
        ".jsonl.gz": _gzip_lines,
        ".jsonl.zst": _zstandard_lines,
    }
    lines = openers.get(_ending(path), _plain_lines)(path)
    for first in lines:
        yield first.removeprefix(_BOM)
        break
    yield from lines


def _plain_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _gzip_lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) as file:
            yield from file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, error) from None


def _zstandard_lines(path: Path) -> Iterator[bytes]:
    rest = b""
    with path.open("rb") as file:
        try:
            for chunk in _zstandard_chunks(file):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
        except (EOFError, zstandard.ZstdError) as error:
            raise _damaged(path, error) from None
    if rest:
        yield rest


def _zstandard_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Decompressed chunks of all frames. Raises EOFError for a truncated frame, which the library
    itself takes for the end."""
    frame = None
    while data := file.read(_CHUNK_BYTES):
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(data)
            data = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("it ends too early")


def _damaged(path: Path, error: Exception) -> NeurariumError:
    return NeurariumError(f"{path} is damaged ({error}): download it again.")


# --- CSV ---


def _csv_documents(
    path: Path, wanted: RequestedColumns, report: ReadReport, source: str | None
) -> Iterator[Document]:
    csv.field_size_limit(2**31 - 1)  # a document may be longer than the default, 131,072
    reader = csv.reader(_decoded_lines(path))
    try:
        header = next(reader, None)
        if not header:
            raise NeurariumError(f"{path} has no header row: name its columns in the first line.")
        columns: Columns | None = None
        for fields in reader:
            if not fields:
                continue
            report.lines_read += 1
            if len(fields) != len(header):
                problem = f"{len(fields)} fields, the header has {len(header)}"
                report.broken(f"{path}, line {reader.line_num}", problem)
                continue
            row = dict(zip(header, fields, strict=True))
            columns = columns or choose_columns(row, kinds_of_row(row), wanted, str(path))
            yield columns.document(row, source)
    except csv.Error as error:
        raise NeurariumError(
            f"{path} is not a CSV file (line {reader.line_num}: {error}): repair or rename it."
        ) from None


def _decoded_lines(path: Path) -> Iterator[str]:
    offset = 0
    with path.open("rb") as file:
        for line in file:
            start = len(_BOM) if offset == 0 and line.startswith(_BOM) else 0
            try:
                yield line[start:].decode()
            except UnicodeDecodeError as error:
                raise _not_utf8(path, offset + start + error.start) from None
            offset += len(line)


# --- Parquet ---


def _parquet_documents(
    path: Path, wanted: RequestedColumns, source: str | None
) -> Iterator[Document]:
    try:
        with pq.ParquetFile(path) as file:
            yield from _parquet_rows(file, path, wanted, source)
    except pa.ArrowException as error:
        raise NeurariumError(
            f"{path} is not a complete Parquet file ({_first_line(error)}): download it again."
        ) from None


def _parquet_rows(
    file: pq.ParquetFile, path: Path, wanted: RequestedColumns, source: str | None
) -> Iterator[Document]:
    kinds = kinds_of_schema(file.schema_arrow)
    first = next(file.iter_batches(batch_size=1), None)
    first_row = (
        first.to_pylist()[0] if first is not None and first.num_rows else dict.fromkeys(kinds)
    )
    columns = choose_columns(first_row, kinds, wanted, str(path))
    for batch in file.iter_batches(batch_size=_batch_rows(file), columns=columns.names):
        yield from table_documents(pa.Table.from_batches([batch]), columns, str(path), source)


def _batch_rows(file: pq.ParquetFile) -> int:
    metadata = file.metadata
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return int(max(1, min(8192, metadata.num_rows * _ROWS_BYTES // max(size, 1))))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
