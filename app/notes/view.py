"""The notes on a neuron as `notes/box.html` shows them."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app.drawing.characters import visible
from app.notes.schemas import Note, NotesPage
from app.web.frame import Frame
from indexer.store.notes import MAX_AUTHOR, MAX_TEXT


@dataclass(frozen=True, slots=True)
class Row:
    """One note."""

    note: Note
    author: Markup
    text: Markup
    """Line breaks and tabs stay; other invisible characters are spelled out."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A form that was refused."""

    problem: str
    """Why."""
    author: str = ""
    text: str = ""
    """The text that was typed."""
    wrong_token: bool = False
    """Whether the token was wrong; the browser then forgets it."""


@dataclass(frozen=True, slots=True)
class Box:
    """A neuron's notes and the form for another one."""

    action: str
    """The page of all notes, where the form is sent."""
    rows: list[Row]
    count: int
    """How many notes there are, on all pages."""
    refusal: Refusal | None = None
    most_author: int = MAX_AUTHOR
    most_text: int = MAX_TEXT


@dataclass(frozen=True, slots=True)
class NotesContext:
    """What `notes/notes.html` is rendered with."""

    frame: Frame
    page: NotesPage
    notes: Box
    cursor: str | None


def box(action: str, notes: list[Note], count: int, refusal: Refusal | None = None) -> Box:
    """The newest of `count` notes, and a form that is sent to `action`."""
    rows = [Row(note, visible(note.author), shown(note.text)) for note in notes]
    return Box(action, rows, count, refusal)


def shown(text: str) -> Markup:
    """A text with its lines and tabs as they are and invisible characters spelled out."""
    return Markup("\n").join(
        Markup("\t").join(visible(part) if part else Markup("") for part in line.split("\t"))
        for line in text.split("\n")
    )
