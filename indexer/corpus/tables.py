"""Documents of Arrow tables: Parquet files and streamed data sets."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

from indexer.corpus.rows import (
    MASK_COLUMN,
    SOURCE_COLUMNS,
    Columns,
    Document,
    Kind,
    RequestedColumns,
)
from indexer.errors import NeurariumError


def kinds_of_schema(schema: pa.Schema) -> dict[str, Kind]:
    """The kind of each column of an Arrow schema."""
    return {entry.name: _kind_of_type(entry.type) for entry in schema}


def _kind_of_type(type_: pa.DataType) -> Kind:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "text"
    if pa.types.is_string_view(type_):
        return "text"
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return "bytes"
    if pa.types.is_binary_view(type_):
        return "bytes"
    if pa.types.is_null(type_):
        return "null"
    is_list = (
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
    )
    return "tokens" if is_list and pa.types.is_integer(type_.value_type) else "other"


def source_rows(table: pa.Table, wanted: RequestedColumns) -> list[dict[str, Any]]:
    """The rows of a table without the columns that cannot hold the source."""
    names = source_names(table.column_names, wanted)
    return table.select(names).to_pylist() if names else []


def source_names(columns: Iterable[str], wanted: RequestedColumns) -> list[str]:
    """The columns that may hold the source."""
    usual = {path[0] for path in SOURCE_COLUMNS}
    named = usual if wanted.source is None else {wanted.source, wanted.source.partition(".")[0]}
    return [name for name in columns if name in named]


def table_documents(
    table: pa.Table, columns: Columns, place: str, default_source: str | None
) -> Iterator[Document]:
    """The documents of an Arrow table. Raises NeurariumError for a row that is not a document."""
    sources = _table_sources(table, columns, default_source)
    content = table.column(columns.content)
    if columns.pretokenised:
        masks = _mask_rows(table, columns.mask, place)
        for ids, mask, source in zip(_token_rows(content, place), masks, sources, strict=True):
            if mask is None:
                yield Document(None, ids, source)
            elif len(mask) != len(ids):
                raise NeurariumError(
                    f"{place} has a row of {len(ids)} token ids with {len(mask)} numbers in its "
                    f"{MASK_COLUMN!r}: repair the row."
                )
            else:
                yield Document(None, ids[mask], source, unpadded=True)
    else:
        for text, source in zip(_texts(content, place), sources, strict=True):
            yield Document(text or "", None, source)


def _texts(column: pa.ChunkedArray, place: str) -> Iterator[str | None]:
    """One text at a time: those of a dictionary may be far larger together than it is."""
    try:
        for value in column:
            text = value.as_py()
            yield text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise NeurariumError(
            f"{place} has text that is not UTF-8 ({error.reason}): recreate the file."
        ) from None


def _table_sources(table: pa.Table, columns: Columns, default: str | None) -> Iterator[str | None]:
    if not columns.source:
        return itertools.repeat(default, table.num_rows)
    name = columns.source[0]
    return (columns.source_of({name: value.as_py()}, None) for value in table.column(name))


def _mask_rows(
    table: pa.Table, name: str | None, place: str
) -> Iterator[Bool[np.ndarray, " pos"] | None]:
    """Which tokens of each row are not padding; None for a row without a mask."""
    if name is None:
        yield from [None] * table.num_rows
        return
    column = table.column(name)
    numbers = getattr(column.type, "value_type", pa.string())
    if not pa.types.is_null(column.type):
        found = str(column.type)
        if pa.types.is_integer(numbers) or pa.types.is_floating(numbers) or numbers == pa.bool_():
            found = _no_mask(pc.list_flatten(column).drop_null())
        if found:
            raise NeurariumError(
                f"{place}: {name!r} has {found}, not lists of 0 and 1: repair or remove it."
            )
    for given, row in zip(column.is_valid().to_pylist(), _token_rows(column, place), strict=True):
        yield row != 0 if given else None


def _no_mask(numbers: pa.ChunkedArray) -> str:
    """The first number that is neither 0 nor 1 nor that of a packed text; empty if none is."""
    given = numbers.to_numpy()
    wrong = given < 0 if pa.types.is_integer(numbers.type) else ~np.isin(given, (0, 1))
    return str(given[wrong][0]) if wrong.any() else ""


def _token_rows(column: pa.ChunkedArray, place: str) -> Iterator[Int64[np.ndarray, " pos"]]:
    if pa.types.is_null(column.type):
        column = column.cast(pa.list_(pa.int64()))
    flat = pc.list_flatten(column)
    if flat.null_count:
        raise NeurariumError(f"{place} has a row of token ids with a null in it: repair the row.")
    ids = flat.to_numpy().astype(np.int64, copy=False)
    ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy(), dtype=np.int64)
    start = 0
    for end in ends.tolist():
        yield ids[start:end]
        start = end
