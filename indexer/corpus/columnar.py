"""Documents of Parquet and Arrow files, with a bound on what a row group may hold in memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.corpus.arrow_sizes import batch_sizes
from indexer.corpus.rows import (
    Columns,
    Document,
    RequestedColumns,
    check_named_once,
    choose_columns,
)
from indexer.corpus.tables import kinds_of_schema, source_names, source_rows, table_documents
from indexer.errors import NeurariumError

_ROWS_BYTES = 8 << 20
"""Rows are read in batches of about this size."""
_MAX_ROWS = 8192
_FIRST_ROWS = 100
"""Rows that are searched for the source."""
_VALUE_BYTES = 8
_SUSPICIOUS_BYTES = 256 << 20
_SUSPICIOUS_RATIO = 1000
"""Columns that unpack to more than this, from a thousandth of it, are refused: text is compressed
to a tenth, token ids at most to a hundredth."""
_DAMAGE = (pa.ArrowException, UnicodeDecodeError, KeyError)
"""What reading a damaged file raises; the latter two come from names of columns."""
_LZ4_RATIO = 150
"""The same for Arrow files, whose LZ4 packs nothing to less than a 255th."""


def parquet_documents(
    path: Path, wanted: RequestedColumns, source: str | None
) -> Iterator[Document]:
    """The documents of a Parquet file. Raises NeurariumError."""
    try:
        with pq.ParquetFile(path) as file:
            columns = _columns(file, path, wanted)
            names = columns.names
            _check_size(file, [name for name in names if name != columns.mask], path)
            _check_mask(file, columns, path)
            texts = _text_leaves(file, names)
        # Read as a dictionary, a text that is repeated is in memory once.
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            for batch in file.iter_batches(batch_size=_batch_rows(file, names), columns=names):
                yield from table_documents(
                    pa.Table.from_batches([batch]), columns, str(path), source
                )
    except _DAMAGE as error:
        raise _incomplete(path, "Parquet", error) from None


def _columns(file: pq.ParquetFile, path: Path, wanted: RequestedColumns) -> Columns:
    kinds = kinds_of_schema(file.schema_arrow)
    names = source_names(kinds, wanted)
    rows: list[dict[str, Any]] = []
    if names and file.metadata.num_rows:
        _check_size(file, names, path)
        first = next(file.iter_batches(batch_size=_FIRST_ROWS, columns=names), None)
        rows = [] if first is None else first.to_pylist()
    columns = choose_columns(rows or [dict.fromkeys(kinds)], kinds, wanted, str(path))
    check_named_once(file.schema_arrow.names, columns, str(path))
    return columns


def _chunks(file: pq.ParquetFile, names: list[str]) -> Iterator[list[Any]]:
    """The metadata of the chosen columns of each row group."""
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        chunks = [group.column(i) for i in range(group.num_columns)]
        yield [chunk for chunk in chunks if any(map(partial(_belongs, chunk), names))]


def _belongs(chunk: Any, name: str) -> bool:
    """Whether a chunk holds a column, or a part of one; names may have dots."""
    return f"{chunk.path_in_schema}.".startswith(f"{name}.")


def _check_size(file: pq.ParquetFile, names: list[str], path: Path) -> None:
    """Refuse a file that unpacks to far more than texts or token ids would."""
    for chunks in _chunks(file, names):
        for chunk in chunks:
            what = f"its column {chunk.path_in_schema!r}"
            _check_ratio(_unpacked(chunk), chunk.total_compressed_size, what, path)


def _check_ratio(
    size: int, packed: int, what: str, path: Path, most: int = _SUSPICIOUS_RATIO
) -> None:
    if size > _SUSPICIOUS_BYTES and size > most * max(packed, 1):
        raise NeurariumError(
            f"{path}: {packed:,} bytes of {what} unpack to {size / 1e9:.1f} GB, which is neither "
            "text nor token ids: leave the file out, or write it again."
        )


def _check_mask(file: pq.ParquetFile, columns: Columns, path: Path) -> None:
    """Refuse masks longer than their rows. Masks of ones are packed to almost nothing, so the
    ratio that betrays other columns says nothing about them."""
    if columns.mask is None:
        return
    pairs = zip(_chunks(file, [columns.content]), _chunks(file, [columns.mask]), strict=True)
    for ids, masks in pairs:
        if sum(m.num_values for m in masks) > sum(i.num_values for i in ids):
            raise NeurariumError(
                f"{path}: the column {columns.mask!r} has more numbers than "
                f"{columns.content!r} has token ids: repair or remove it."
            )


def _unpacked(chunk: Any) -> int:
    size, values = int(chunk.total_uncompressed_size), int(chunk.num_values)
    return size if chunk.physical_type == "BYTE_ARRAY" else max(size, values * _VALUE_BYTES)


def _text_leaves(file: pq.ParquetFile, names: list[str]) -> list[str]:
    return sorted(
        {
            chunk.path_in_schema
            for chunks in _chunks(file, names)
            for chunk in chunks
            if chunk.physical_type == "BYTE_ARRAY"
        }
    )


def _batch_rows(file: pq.ParquetFile, names: list[str]) -> int:
    size = sum(_unpacked(chunk) for chunks in _chunks(file, names) for chunk in chunks)
    encodings = {e for chunks in _chunks(file, names) for c in chunks for e in c.encodings}
    # Beginnings that texts share are stored once, and no dictionary spares their memory.
    most = 16 if "DELTA_BYTE_ARRAY" in encodings else _MAX_ROWS
    return int(max(1, min(most, file.metadata.num_rows * _ROWS_BYTES // max(size, 1))))


def arrow_documents(path: Path, wanted: RequestedColumns, source: str | None) -> Iterator[Document]:
    """The documents of an Arrow file, in the format for streams or for files. Raises
    NeurariumError."""
    try:
        with pa.memory_map(str(path)) as mapped:
            for size in batch_sizes(mapped):
                _check_ratio(size.unpacked, size.packed, "a batch", path, _LZ4_RATIO)
            mapped.seek(0)
            columns: Columns | None = None
            for batch in _arrow_batches(mapped):
                table = pa.Table.from_batches([batch])
                if columns is None:
                    first = table.slice(0, _FIRST_ROWS)
                    first = first.select(source_names(table.column_names, wanted))
                    rows = source_rows(_whole(first), wanted)
                    kinds = kinds_of_schema(table.schema)
                    columns = choose_columns(
                        rows or [dict.fromkeys(kinds)], kinds, wanted, str(path)
                    )
                    check_named_once(table.column_names, columns, str(path))
                read = _whole(table.select(columns.names))
                step = int(max(1, min(_MAX_ROWS, len(batch) * _ROWS_BYTES // (batch.nbytes + 1))))
                for start in range(0, len(batch), step):
                    part = read.slice(start, step)
                    yield from table_documents(part, columns, str(path), source)
    except _DAMAGE as error:
        raise _incomplete(path, "Arrow", error) from None


def _whole(table: pa.Table) -> pa.Table:
    """The same table. Arrow believes what a file says of its own places, and reading at a wrong
    one ends the process. Raises pa.ArrowException."""
    table.validate(full=True)
    return table


def _arrow_batches(mapped: pa.MemoryMappedFile) -> Iterator[pa.RecordBatch]:
    try:
        file = pa.ipc.open_file(mapped)
    except pa.ArrowInvalid:
        mapped.seek(0)
        yield from pa.ipc.open_stream(mapped)
    else:
        for number in range(file.num_record_batches):
            yield file.get_batch(number)


def _incomplete(path: Path, kind: str, error: Exception) -> NeurariumError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return NeurariumError(f"{path} is not a complete {kind} file ({reason}): download it again.")
