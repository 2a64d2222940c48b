"""Notes on a neuron → what `neuron/notes.html` shows of them."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app.drawing.characters import visible
from app.notes.schemas import Note
from indexer.store.notes import MAX_AUTHOR, MAX_TEXT


@dataclass(frozen=True, slots=True)
class Row:
    """One note."""

    note: Note
    author: Markup
    text: Markup
    """Line breaks and tabs are themselves; what else cannot be seen is spelled out."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was sent and not done."""

    problem: str
    """Why not."""
    author: str = ""
    text: str = ""
    """What was typed."""
    wrong_token: bool = False
    """Whether it was for the token, which is not remembered then."""


@dataclass(frozen=True, slots=True)
class Box:
    """A neuron's notes and the form for another: `notes` in `neuron/notes.html`."""

    action: str
    """Where the form is sent, and the page of all notes."""
    rows: list[Row]
    count: int
    """Of all, not of `rows` alone."""
    refusal: Refusal | None = None
    most_author: int = MAX_AUTHOR
    most_text: int = MAX_TEXT


def box(action: str, notes: list[Note], count: int, refusal: Refusal | None = None) -> Box:
    """Notes, newest first, of `count` that there are, and a form that is sent to `action`."""
    rows = [Row(note, visible(note.author), shown(note.text)) for note in notes]
    return Box(action, rows, count, refusal)


def shown(text: str) -> Markup:
    """A text in which every character can be seen, its lines and tabs as they are."""
    return Markup("\n").join(
        Markup("\t").join(visible(part) if part else Markup("") for part in line.split("\t"))
        for line in text.split("\n")
    )
