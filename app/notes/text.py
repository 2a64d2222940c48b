"""What may stand in a note, and a note as a line of JSON. ValueErrors say what is wrong."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

from indexer.store.notes import MAX_AUTHOR, MAX_INDEX, MAX_MODEL, MAX_TEXT, Note

_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Times of notes: both databases, and every time zone, can tell them."""
_FIELDS = ("model", "layer", "neuron", "time", "author", "text")


def author_line(author: str) -> str:
    """An author line as it is kept: without blanks round it. Raises ValueError."""
    _check_characters(author, "the author line", "")
    author = author.strip()
    if not author:
        raise ValueError("The author line is empty: say who writes.")
    if len(author) > MAX_AUTHOR:
        raise ValueError(
            f"The author line has {len(author):,} characters: {MAX_AUTHOR} are the most."
        )
    return author


def note_text(text: str) -> str:
    """A note's text as it is kept: line ends as \\n, nothing empty round it. Raises ValueError."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    _check_characters(text, "the note", "\n\t")
    text = text.rstrip().lstrip("\n")
    if not text:
        raise ValueError("The note is empty: type something.")
    if len(text) > MAX_TEXT:
        raise ValueError(f"The note has {len(text):,} characters: {MAX_TEXT:,} are the most.")
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
    """A time as JSON has it, in UTC. Raises ValueError."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no time such as 2026-03-14T15:09:26Z.") from None
    if time.tzinfo is None:
        raise ValueError(f"The time {text} names no zone: put Z behind it for UTC.")
    if not _FIRST <= time < _LAST:
        raise ValueError(f"The time {text} is not from 1970 to 9998.")
    return time.astimezone(UTC)


def line_of(note: Note) -> str:
    """A note as one line of JSON."""
    fields = {name: getattr(note, name) for name in _FIELDS}
    line = json.dumps(fields | {"time": note.time.isoformat()}, ensure_ascii=False)
    # To some readers these end a line.
    return line.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def note_of(line: bytes) -> Note:
    """A line of JSON as a note. Raises ValueError."""
    try:
        found = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"It is not UTF-8: byte {error.start} cannot be read.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"It is not JSON: {error}.") from None
    if not isinstance(found, dict) or set(found) != set(_FIELDS):
        raise ValueError(f"It has to be an object of {', '.join(_FIELDS)}.")
    model = _text(found, "model")
    _check_characters(model, "the model's name", "")
    if not 1 <= len(model) <= MAX_MODEL:
        raise ValueError(
            f"The model's name has {len(model):,} characters: 1 to {MAX_MODEL} are right."
        )
    return Note(
        model=model,
        layer=_index(found, "layer"),
        neuron=_index(found, "neuron"),
        time=moment(_text(found, "time")),
        author=author_line(_text(found, "author")),
        text=note_text(_text(found, "text")),
    )


def _text(found: dict[str, Any], name: str) -> str:
    value = found[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is {str(value)[:40]}: it has to be a text.")
    return value


def _index(found: dict[str, Any], name: str) -> int:
    value = found[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INDEX:
        raise ValueError(f"{name} is {str(value)[:40]}: it has to be a whole number from 0 on.")
    return value
