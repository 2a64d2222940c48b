"""Documents of CSV files: which character separates the columns, whether there is a header."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from indexer.corpus.lines import BOM, MAX_LINE_BYTES, lines
from indexer.corpus.rows import (
    TEXT_COLUMNS,
    Columns,
    Document,
    ReadReport,
    RequestedColumns,
    check_named_once,
    choose_columns,
    kinds_of_row,
)
from indexer.errors import NeurariumError

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_FIRST_LINES = 100
_FIRST_CHARS = 8 << 20
_MOST_COLUMNS = 100_000
_AGREEING = 0.9
"""The separator is one for which this share of the first rows is as wide as the header."""
_SEP = re.compile(r"sep=([^\w\s\"]|\t)\s*", re.IGNORECASE)
"""A first line by which spreadsheets name the separator."""
_NAME = re.compile(r"[^\W\d][\w.-]{0,49}")
"""What a column's name looks like, where the header has only one."""
_VALUE = re.compile(r"[+-]?[0-9]+([.,][0-9]+)*|.{61,}|.* .*[.!?…]['\"”»)]?", re.DOTALL)
"""What is a number, a long text or a sentence, and no column's name."""


def separated_documents(
    path: Path, wanted: RequestedColumns, report: ReadReport, source: str | None
) -> Iterator[Document]:
    """The documents of a CSV file, whatever separates its columns. Raises NeurariumError if the
    file has no header or is not CSV."""
    csv.field_size_limit(MAX_LINE_BYTES)  # the default is 131,072
    decoded = _decoded(path)
    first = _first_lines(decoded)
    most = max(map(first[0].count, _SEPARATORS)) if first else 0
    if most > _MOST_COLUMNS:
        raise NeurariumError(
            f"{path} has {most + 1:,} columns by its first line, of at most {_MOST_COLUMNS:,}: "
            "check that it is a CSV file."
        )
    named_separator = _SEP.fullmatch(first[0]) if first else None
    separator = named_separator[1] if named_separator else _separator(first)
    if separator != ",":
        name = _SEPARATORS.get(separator, repr(separator))
        report.note(f"{path}: the columns are separated by {name}")
    row = _Row(itertools.chain(first, decoded))
    reader = csv.reader(row, delimiter=separator)
    try:
        if named_separator:
            next(reader)
        header = [name.strip() for name in next(reader, [])]
        _check_header(header, path, wanted, report)
        columns: Columns | None = None
        row.lines.clear()
        for fields in reader:
            if row.is_open:
                raise _unclosed(path, 1 + reader.line_num - len(row.lines))
            row.lines.clear()
            if not fields:
                continue
            report.lines_read += 1
            if len(fields) != len(header):
                problem = f"{len(fields)} fields, the header has {len(header)}"
                report.broken(f"{path}, line {reader.line_num}", problem)
                continue
            named = dict(zip(header, fields, strict=True))
            if columns is None:
                columns = choose_columns([named], kinds_of_row(named), wanted, str(path))
                check_named_once(header, columns, str(path))
            yield columns.document(named, source)
    except csv.Error as error:
        reason = str(error).partition(" - ")[0]  # what follows is advice to programmers
        raise NeurariumError(
            f"{path} is not a CSV file (line {reader.line_num}: {reason}): repair or rename it."
        ) from None


class _Row:
    """The lines of a file, with those that have been read of the row that is being read."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.lines: list[str] = []
        self.ended = False

    def __iter__(self) -> _Row:
        return self

    def __next__(self) -> str:
        try:
            line = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        self.lines.append(line)
        return line

    @property
    def is_open(self) -> bool:
        """Whether the file has ended inside quotation marks, and the row is the rest of it."""
        if not self.ended or len(self.lines) < 2:
            return False
        return bool(sum(line.count('"') for line in self.lines) % 2)


def _unclosed(path: Path, line: int) -> NeurariumError:
    return NeurariumError(
        f"{path} is not a CSV file (line {line}: a quotation mark is never closed, so that the "
        'rest of the file would be one row): close it, or write it as "".'
    )


def _first_lines(decoded: Iterator[str]) -> list[str]:
    """The first lines, up to a number of them and of characters."""
    first: list[str] = []
    size = 0
    for line in decoded:
        first.append(line)
        size += len(line)
        if len(first) == _FIRST_LINES or size >= _FIRST_CHARS:
            break
    return first


def _separator(first: list[str]) -> str:
    """The character that makes the most columns of the first lines; a comma if it makes any, or
    nothing does."""
    widths = {separator: _width(first, separator) for separator in _SEPARATORS}
    if widths[","] > 1:
        return ","
    return max(_SEPARATORS, key=lambda separator: widths[separator])


def _width(first: list[str], separator: str) -> int:
    """Columns of the header if most of the rows have as many, else 1."""
    try:
        widths = [len(row) for row in csv.reader(first, delimiter=separator) if row]
    except csv.Error:
        return 1
    if not widths:
        return 1
    # A row with line breaks may be cut where the first lines end.
    others = widths[1:-1] if len(first) == _FIRST_LINES else widths[1:]
    agreeing = sum(width == widths[0] for width in others)
    return widths[0] if agreeing >= _AGREEING * len(others) else 1


def _check_header(
    header: list[str], path: Path, wanted: RequestedColumns, report: ReadReport
) -> None:
    """Refuse a header that is probably a document; mention one that might be."""
    if not header:
        raise NeurariumError(f"{path} has no header row: name its columns in the first line.")
    if any(name in (wanted.text, *TEXT_COLUMNS) for name in header):
        return
    name = header[0]
    if len(header) > 1:
        name = next(filter(_VALUE.fullmatch, header), "")
    if _VALUE.fullmatch(name) or (len(header) == 1 and not _NAME.fullmatch(name)):
        beginning = name if len(name) <= 40 else f"{name[:40]}…"
        where = f"its first line, {beginning!r}, does"
        if len(header) > 1:
            columns = ", ".join(header)
            columns = columns if len(columns) <= 80 else f"{columns[:80]}…"
            where = f"{beginning!r} in its first line (columns: {columns}) does"
        raise NeurariumError(
            f"{path} has no header row: {where} not look like the name of a column. Put a line "
            "with the names, such as text, in front, or rename the file to .txt to make it one "
            "document."
        )
    if wanted.text is None and len(header) == 1:
        report.note(f"{path}: its first line, {name!r}, is taken as the name of the only column")


def _decoded(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        offset = len(BOM) if file.read(len(BOM)) == BOM else 0
    for line in lines(path):
        check_no_zeros(line, path, offset)
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise not_utf8(path, offset + error.start) from None
        offset += len(line)


def check_no_zeros(data: bytes, path: Path, offset: int) -> None:
    """Raises NeurariumError for a byte 0, which UTF-16 and formats that are no text have. `offset`
    is the place of `data` in the file."""
    at = data.find(0)
    if at >= 0:
        raise NeurariumError(
            f"{path} is not UTF-8 text (byte {offset + at} is 0, as in UTF-16 or a file that is no "
            "text): convert it to UTF-8, or remove it."
        )


def not_utf8(path: Path, offset: int) -> NeurariumError:
    """The error for a file that is not UTF-8 text."""
    return NeurariumError(
        f"{path} is not UTF-8 text (byte {offset}): convert it to UTF-8, or remove it."
    )
