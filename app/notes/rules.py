"""What a note may hold, or why it is refused; and notes as lines of JSON. A ValueError's message is
for readers."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from app.drawing.quoting import shortened
from indexer.store.notes import MAX_AUTHOR, MAX_INDEX, MAX_MODEL, MAX_TEXT, Note

_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""The times of notes: both databases support them, in every time zone."""
_FIELDS = ("model", "layer", "neuron", "time", "author", "text")


def author_line(author: str) -> str:
    """The author line without surrounding blanks. Raises ValueError."""
    _check_characters(author, "the author line", "")
    author = author.strip()
    if not author:
        raise ValueError("The author line is empty: write your name.")
    if len(author) > MAX_AUTHOR:
        raise ValueError(
            f"The author line has {len(author):,} characters: the maximum is {MAX_AUTHOR}."
        )
    return author


def note_text(text: str) -> str:
    """The text with \\n as line ends and without surrounding blank lines. Raises ValueError."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    _check_characters(text, "the note", "\n\t")
    text = text.rstrip().lstrip("\n")
    if not text:
        raise ValueError("The note is empty: type something.")
    if len(text) > MAX_TEXT:
        raise ValueError(f"The note has {len(text):,} characters: the maximum is {MAX_TEXT:,}.")
    return text


def _check_characters(text: str, where: str, allowed: str) -> None:
    for character in text:
        category = unicodedata.category(character)
        if category == "Cs":
            raise ValueError(f"There is half a character in {where}: a lone surrogate.")
        if category == "Cc" and character not in allowed:
            raise ValueError(
                f"There is a control character in {where}, U+{ord(character):04X}: take it out."
            )


def moment(text: str) -> datetime:
    """A time in ISO 8601 format, converted to UTC. Raises ValueError."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{shortened(text, 40)!r} is not a time such as 2026-03-14T15:09:26Z."
        ) from None
    if time.tzinfo is None:
        raise ValueError(f"The time {text} has no time zone: append Z for UTC.")
    if not _FIRST <= time < _LAST:
        raise ValueError(f"The time {text} is not between 1970 and 9998.")
    return time.astimezone(UTC)


def line_of(note: Note) -> str:
    """A note as one line of JSON."""
    fields = {name: getattr(note, name) for name in _FIELDS}
    line = json.dumps(fields | {"time": note.time.isoformat()}, ensure_ascii=False)
    # Some programs take these two characters as line ends.
    return line.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def note_of(line: bytes, defaults: Mapping[str, str] | None = None) -> Note:
    """A line of JSON as a note; `defaults` has the `time` and `author` of lines without. Raises
    ValueError."""
    try:
        fields = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"It is not UTF-8: byte {error.start} cannot be read.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"It is not JSON: {error}.") from None
    if isinstance(fields, dict):
        fields = {**(defaults or {}), **fields}
    if not isinstance(fields, dict) or set(fields) != set(_FIELDS):
        raise ValueError(f"It has to be an object with the fields {', '.join(_FIELDS)}.")
    model = _text(fields, "model")
    _check_characters(model, "the model's name", "")
    if not 1 <= len(model) <= MAX_MODEL:
        raise ValueError(
            f"The model's name has {len(model):,} characters: it can have 1 to {MAX_MODEL}."
        )
    return Note(
        model=model,
        layer=_index(fields, "layer"),
        neuron=_index(fields, "neuron"),
        time=moment(_text(fields, "time")),
        author=author_line(_text(fields, "author")),
        text=note_text(_text(fields, "text")),
    )


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is {shortened(str(value), 40)}: it has to be a string.")
    return value


def _index(fields: dict[str, Any], name: str) -> int:
    value = fields[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INDEX:
        raise ValueError(
            f"{name} is {shortened(str(value), 40)}: it has to be a whole number from 0 up."
        )
    return value
