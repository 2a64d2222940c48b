"""The notes on a neuron's page and on the page of all its notes."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app.drawing.characters import visible
from app.notes.schemas import Note, NotesPage
from app.web.frame import Frame
from indexer.store.notes import MAX_AUTHOR, MAX_TEXT


@dataclass(frozen=True, slots=True)
class Row:
    """A note as markup."""

    note: Note
    author: Markup
    text: Markup
    """With its line breaks and tabs; other invisible characters are spelled out."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A form that was refused."""

    problem: str
    """Why."""
    author: str = ""
    text: str = ""
    """The text that was typed."""
    wrong_token: bool = False
    """Whether the token was wrong: the browser then forgets it."""


@dataclass(frozen=True, slots=True)
class Box:
    """A neuron's notes and the form for a new note."""

    action: str
    """The page of all notes, where the form is sent."""
    rows: list[Row]
    count: int
    """The number of notes on all pages."""
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
    """A page of `count` notes, and a form that is sent to `action`."""
    rows = [Row(note, visible(note.author), note_markup(note.text)) for note in notes]
    return Box(action, rows, count, refusal)


def note_markup(text: str) -> Markup:
    """A note's text with its line breaks and tabs; other invisible characters are spelled out."""
    return Markup("\n").join(
        Markup("\t").join(visible(part) if part else Markup("") for part in line.split("\t"))
        for line in text.split("\n")
    )
