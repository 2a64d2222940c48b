"""A corpus that a program holds in memory: strings, dictionaries, arrays of token ids, or a data
set of the library `datasets`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from indexer.corpus.rows import (
    BrokenRow,
    Columns,
    Document,
    ReadReport,
    RequestedColumns,
    choose_columns,
    kinds_of_rows,
    printable,
)
from indexer.corpus.tables import kinds_of_schema, source_rows, table_documents
from indexer.errors import NeurariumError

LABEL = "texts in memory"
_BATCH_ROWS = 1000
_FIRST_ROWS = 100
"""Dictionaries by which the columns are chosen."""


@dataclass(frozen=True)
class MemoryCorpus:
    """Documents that a program gives; they can be read any number of times."""

    read: Callable[[], Iterator[Document]]
    identity: str
    """A hash of all documents."""
    label: str = LABEL
    revision: str | None = None
    notes: tuple[str, ...] = ()
    report: ReadReport = field(default_factory=ReadReport, compare=False)

    def documents(self) -> Iterator[Document]:
        """All documents in the given order."""
        self.report.reset()
        return self.read()

    def check_first(self) -> None:
        """Nothing: all documents were read when the corpus was made."""


def open_in_memory(
    texts: Iterable[Any], wanted: RequestedColumns, default_source: str | None = None
) -> MemoryCorpus:
    """The corpus of `texts`, which are read once now for their hash.

    An iterator becomes a list. Raises NeurariumError for anything that is not text.
    """
    if isinstance(texts, str | bytes | Mapping):
        raise NeurariumError(
            "texts is one text: give a list of texts, such as [text], or a data set."
        )
    if hasattr(texts, "with_format") and hasattr(texts, "iter"):

        def read() -> Iterator[Document]:
            return _of_dataset(texts, wanted, default_source)

    else:
        rows = texts if isinstance(texts, list | tuple | np.ndarray) else list(texts)

        def read() -> Iterator[Document]:
            return _of_rows(rows, wanted, default_source)

    return MemoryCorpus(read, _hash(read()))


def _of_dataset(
    texts: Any, wanted: RequestedColumns, default_source: str | None
) -> Iterator[Document]:
    columns: Columns | None = None
    for table in texts.with_format("arrow").iter(batch_size=_BATCH_ROWS):
        columns = columns or choose_columns(
            source_rows(table, wanted) or [dict.fromkeys(table.column_names)],
            kinds_of_schema(table.schema),
            wanted,
            LABEL,
        )
        yield from table_documents(table, columns, LABEL, default_source)


def _of_rows(rows: Any, wanted: RequestedColumns, default_source: str | None) -> Iterator[Document]:
    columns: Columns | None = None
    for index, row in enumerate(rows):
        if isinstance(row, str):
            yield Document(row, None, _source(default_source))
        elif isinstance(row, Mapping):
            if columns is None:
                first = [_plain(row) for row in rows[:_FIRST_ROWS] if isinstance(row, Mapping)]
                columns = choose_columns(first, kinds_of_rows(first), wanted, LABEL)
            try:
                yield columns.document(_plain(row), _source(default_source))
            except BrokenRow as error:
                raise NeurariumError(f"Text {index} cannot be read: {error}.") from None
        else:
            yield Document(None, _ids(row, index), _source(default_source))


def _source(name: str | None) -> str | None:
    return None if name is None else printable(name)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A dictionary with its arrays as lists."""
    return {name: _listed(value) for name, value in row.items()}


def _listed(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _ids(row: Any, index: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Token ids of a list, a numpy array or a tensor. Raises NeurariumError."""
    try:
        ids = np.asarray(_listed(row))
    except ValueError:
        ids = np.asarray(None)
    if ids.ndim != 1 or (len(ids) and ids.dtype.kind not in "iu"):
        raise NeurariumError(
            f"Text {index} is {type(row).__name__}, not a text: use a string, a dictionary with "
            "'text', or a row of token ids."
        )
    return ids.astype(np.int64)


def _hash(documents: Iterator[Document]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for document in documents:
        parts = (
            b"" if document.text is None else document.text.encode("utf-8", "surrogatepass"),
            b"" if document.token_ids is None else document.token_ids.astype("<i8").tobytes(),
            (document.source or "").encode("utf-8", "surrogatepass"),
        )
        for part in parts:
            total.update(len(part).to_bytes(8, "little") + part)
    return f"memory:{total.hexdigest()}"
