"""What all corpus readers share: the document, the count of broken lines, and the choice of the
columns with the text (or token ids) and the source."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Bool, Int64

from indexer.errors import NeurariumError

Kind = Literal["text", "tokens", "bytes", "null", "other"]
"""What a column holds; `bytes` may be UTF-8 text."""

TOKEN_COLUMNS = ("tokens", "input_ids")
MASK_COLUMN = "attention_mask"
TEXT_COLUMNS = ("text", "content")
SOURCE_COLUMNS = (("source",), ("meta", "pile_set_name"))

BROKEN_SHARE = 0.01
"""A corpus with a larger share of broken lines is refused."""
MAX_BROKEN_START = 100
"""Reading stops if the first lines, as many as this, are all broken."""
MAX_NOTES = 5
_LISTED_COLUMNS, _LISTED_CHARS = 20, 40
"""Most columns in a message, and characters of each."""


@dataclass(frozen=True)
class Document:
    """One text of the corpus, either as text or as token ids."""

    text: str | None
    token_ids: Int64[np.ndarray, " pos"] | None
    source: str | None
    unpadded: bool = False
    """Whether an attention mask marked the padding of `token_ids`, which has been removed."""


@dataclass
class ReadReport:
    """Counts of read and broken lines in `.jsonl` and `.csv` files."""

    lines_read: int = 0
    broken_lines: int = 0
    first_broken: str = ""
    """File, line number and problem of the first broken line."""
    notes: list[str] = field(default_factory=list)
    """What was guessed about a file's format."""

    def reset(self) -> None:
        """Set all counts to 0."""
        self.lines_read, self.broken_lines, self.first_broken = 0, 0, ""
        self.notes.clear()

    def note(self, line: str) -> None:
        """Add a note for the user, up to `MAX_NOTES`."""
        if len(self.notes) < MAX_NOTES:
            self.notes.append(line)

    def broken(self, place: str, problem: str) -> None:
        """Count a broken line. Raises NeurariumError if all lines so far are broken and there are
        `MAX_BROKEN_START`."""
        self.broken_lines += 1
        self.first_broken = self.first_broken or f"{place}: {problem}"
        if self.broken_lines == self.lines_read == MAX_BROKEN_START:
            self.check()

    def check(self) -> None:
        """Raises NeurariumError if the share of broken lines exceeds `BROKEN_SHARE`."""
        if self.broken_lines > BROKEN_SHARE * self.lines_read:
            raise NeurariumError(
                f"{self.broken_lines} of {self.lines_read} lines of the corpus are broken; the "
                f"first is {self.first_broken}. Up to 1% would be skipped: repair or remove them, "
                "or check that the file has the right format."
            )


class Corpus(Protocol):
    """A corpus that can be read from its beginning any number of times."""

    @property
    def label(self) -> str:
        """The name shown to users."""

    @property
    def identity(self) -> str:
        """A cheap fingerprint that changes whenever the documents may have changed."""

    @property
    def revision(self) -> str | None:
        """The commit of a hub data set; None for files."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user about what is read and what is not, known before reading."""

    @property
    def report(self) -> ReadReport:
        """Line counts of the last call of `documents()`, complete once it has ended."""

    def documents(self) -> Iterator[Document]:
        """All documents in corpus order. Raises NeurariumError if reading fails."""

    def check_first(self) -> None:
        """Read what may show a mistake at once. Raises NeurariumError."""


class BrokenRow(Exception):
    """A row is not a document; the message says why."""


@dataclass(frozen=True)
class RequestedColumns:
    """The columns the user named; None: chosen by name and kind."""

    text: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Columns:
    """The columns of a row that make up its document."""

    content: str
    """The column with the text or token ids."""
    pretokenised: bool
    source: tuple[str, ...] = field(default=())
    """The path to the source inside the row; () without one."""
    mask: str | None = None
    """The column that says which token ids are padding; None: there is none."""

    @property
    def names(self) -> list[str]:
        """The columns to read."""
        names = [self.content, *self.source[:1], *([self.mask] if self.mask else [])]
        return list(dict.fromkeys(names))

    def document(self, row: Mapping[str, Any], default_source: str | None) -> Document:
        """The document of one row; a missing or null text is empty. Raises BrokenRow."""
        value = row.get(self.content)
        source = self.source_of(row, default_source)
        if self.pretokenised:
            ids = token_row(value, self.content)
            mask = row.get(MASK_COLUMN)  # rows have columns of their own, unlike tables
            if mask is None:
                return Document(None, ids, source)
            return Document(None, ids[mask_row(mask, len(ids))], source, unpadded=True)
        if value is not None and not isinstance(value, str):
            raise BrokenRow(f"{self.content!r} is {_name_kind(value)}, not text")
        return Document(value or "", None, source)

    def source_of(self, row: Mapping[str, Any], default: str | None) -> str | None:
        """The row's source; `default` without a source column."""
        if not self.source:
            return default
        value = look_up(row, self.source)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        return None if value is None else printable(str(value))


def printable(name: str) -> str:
    """The name with unprintable characters (control, direction, surrogate) as �."""
    return "".join(c if c.isprintable() else "\ufffd" for c in name)


def choose_columns(
    rows: Sequence[Mapping[str, Any]],
    kinds: Mapping[str, Kind],
    wanted: RequestedColumns,
    place: str,
) -> Columns:
    """The columns to read. Raises NeurariumError, listing the columns, if the choice is unclear.

    `rows` are the first rows, and `place` the file or data set, for the message.
    """
    source = _source_path(rows, kinds, wanted, place)
    content = _content_column(kinds, source[:1], wanted, place)
    pretokenised = kinds[content] == "tokens"
    mask = MASK_COLUMN if pretokenised and MASK_COLUMN in kinds else None
    return Columns(content, pretokenised, source, mask)


def _content_column(
    kinds: Mapping[str, Kind],
    taken: tuple[str, ...],
    wanted: RequestedColumns,
    place: str,
) -> str:
    """The column with the text; `taken` is the source's, which is not the text if another is."""
    if wanted.text is not None:
        if wanted.text not in kinds:
            raise _no_column("text", wanted.text, kinds, place)
        if kinds[wanted.text] == "other":
            raise _no_text(wanted.text, kinds, place)
        return wanted.text
    for name in TOKEN_COLUMNS:
        if kinds.get(name) == "tokens":
            return name
    for name in TEXT_COLUMNS:
        if name in kinds:
            if kinds[name] not in ("text", "bytes", "null"):
                raise _no_text(name, kinds, place)
            return name
    texts: list[str] = []
    for kind in ("text", "bytes"):
        texts = texts or [n for n in kinds if kinds[n] == kind and n not in TOKEN_COLUMNS]
    texts = [name for name in texts if name not in taken] or texts
    if len(texts) == 1:
        return texts[0]
    problem = "several columns could be" if texts else "no column looks like"
    raise NeurariumError(
        f"{place}: {problem} the text: name it with --text-column ({_listed(kinds)})."
    )


def _source_path(
    rows: Sequence[Mapping[str, Any]],
    kinds: Mapping[str, Kind],
    wanted: RequestedColumns,
    place: str,
) -> tuple[str, ...]:
    def there(path: tuple[str, ...]) -> bool:
        return any(_has(row, path) for row in rows)

    if wanted.source is not None:
        for path in ((wanted.source,), tuple(wanted.source.split("."))):
            if path[0] in kinds and there(path):
                return path
        raise _no_column("source", wanted.source, kinds, place)
    return next((path for path in SOURCE_COLUMNS if there(path)), ())


def check_named_once(names: Iterable[str], columns: Columns, place: str) -> None:
    """Raises NeurariumError if a column that is to be read is in the file twice."""
    counts = Counter(names)
    for name in columns.names:
        if counts[name] > 1:
            raise NeurariumError(
                f"{place} has {counts[name]} columns named {name!r}: rename all but the one to "
                "read."
            )


def _no_column(
    what: Literal["text", "source"], name: str, kinds: Mapping[str, Kind], place: str
) -> NeurariumError:
    return NeurariumError(
        f"{place} has no column {name!r}: choose one with --{what}-column ({_listed(kinds)})."
    )


def _no_text(name: str, kinds: Mapping[str, Kind], place: str) -> NeurariumError:
    return NeurariumError(
        f"The column {name!r} of {place} is not text: choose another with --text-column "
        f"({_listed(kinds)})."
    )


def _listed(kinds: Mapping[str, Kind]) -> str:
    if not kinds:
        return "there are no columns"
    names = [n if len(n) <= _LISTED_CHARS else f"{n[:_LISTED_CHARS]}…" for n in kinds]
    more = f" and {len(names) - _LISTED_COLUMNS} more" if len(names) > _LISTED_COLUMNS else ""
    return f"columns: {', '.join(names[:_LISTED_COLUMNS])}{more}"


def look_up(row: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The value at a path of keys, or None. Objects may also be JSON text."""
    value: Any = row
    for key in path:
        value = _as_object(value)
        if value is None:
            return None
        value = value.get(key)
    return value


def _has(row: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    *parents, last = path
    parent = _as_object(look_up(row, tuple(parents)))
    return parent is not None and last in parent


def _as_object(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, Mapping) else None


def kinds_of_row(row: Mapping[str, Any]) -> dict[str, Kind]:
    """The kind of each column, judged by one row."""
    return {name: _kind_of_value(value) for name, value in row.items()}


def kinds_of_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, Kind]:
    """The kind of each column of several rows: text or token ids if any row has them there."""
    kinds: dict[str, Kind] = {}
    for row in rows:
        for name, kind in kinds_of_row(row).items():
            known = kinds.get(name, "null")
            kinds[name] = kind if known in ("null", "other") and kind != "null" else known
    return kinds


def _kind_of_value(value: Any) -> Kind:
    if value is None:
        return "null"
    if isinstance(value, str):
        return "text"
    return "tokens" if isinstance(value, list) and all(type(i) is int for i in value) else "other"


def token_row(value: Any, column: str) -> Int64[np.ndarray, " pos"]:
    """Token ids as an array; empty if missing. Raises BrokenRow."""
    if value is None:
        return np.empty(0, np.int64)
    if _kind_of_value(value) != "tokens":
        raise BrokenRow(f"{column!r} is {_name_kind(value)}, not a list of token ids")
    try:
        return np.array(value, dtype=np.int64)
    except OverflowError:
        raise BrokenRow(f"{column!r} has a number too large for a token id") from None


def mask_row(value: Any, length: int) -> Bool[np.ndarray, " pos"]:
    """An attention mask: which of a row's tokens are not padding. Raises BrokenRow."""
    if not isinstance(value, list) or not all(type(i) in (int, bool, float) for i in value):
        raise BrokenRow(f"{MASK_COLUMN!r} is {_name_kind(value)}, not a list of 0 and 1")
    if wrong := next((i for i in value if not _is_mask(i)), None):
        raise BrokenRow(f"{MASK_COLUMN!r} has {wrong}, not 0 and 1 alone")
    if len(value) != length:
        raise BrokenRow(f"{MASK_COLUMN!r} has {len(value)} numbers for {length} token ids")
    return np.array(value, dtype=np.bool_)


def _is_mask(number: float) -> bool:
    """Whether a number may stand in a mask: 0, 1, or the number of a packed text. A negative one
    is added to scores of attention, so that 0 would be no padding."""
    return number in (0, 1) or (type(number) is int and number > 0)


def _name_kind(value: Any) -> str:
    names = {bool: "true or false", dict: "an object", list: "a list"}
    return names.get(type(value), "a number")
