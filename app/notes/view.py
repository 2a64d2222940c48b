"""The notes on a neuron's page and on the page of all its notes."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app.drawing.characters import visible
from app.notes.schemas import NotesIndex, NotesPage
from app.schemas import Note
from app.sets import ModelSet
from app.web import urls
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
    writable: bool
    """Whether the server's database can be written."""
    refusal: Refusal | None = None
    most_author: int = MAX_AUTHOR
    most_text: int = MAX_TEXT


@dataclass(frozen=True, slots=True)
class NotesContext:
    """What `notes/notes.html` is rendered with."""

    frame: Frame
    page: NotesPage
    label: str
    """The unit's noun and index."""
    notes: Box
    cursor: str | None


@dataclass(frozen=True, slots=True)
class IndexRow:
    """A note of the index, with its neuron."""

    note: Note
    neuron: str
    href: str
    author: Markup
    text: Markup


@dataclass(frozen=True, slots=True)
class NotesIndexContext:
    """What `notes/index.html` is rendered with."""

    frame: Frame
    page: NotesIndex
    rows: list[IndexRow]
    cursor: str | None


def index_rows(notes: list[Note], *, of_model: bool) -> list[IndexRow]:
    """The rows of an index; `of_model`: all are of one model, which they then leave out."""
    rows = []
    for note in notes:
        place = f"{note.layer}/{note.neuron}"
        name = place if of_model else f"{note.model} {place}"
        href = f"{urls.neuron(ModelSet.parse(note.model), note.layer, note.neuron)}#notes"
        rows.append(IndexRow(note, name, href, visible(note.author), note_markup(note.text)))
    return rows


def box(
    action: str, notes: list[Note], count: int, writable: bool, refusal: Refusal | None = None
) -> Box:
    """A page of `count` notes, and if they are writable a form that is sent to `action`."""
    rows = [Row(note, visible(note.author), note_markup(note.text)) for note in notes]
    return Box(action, rows, count, writable, refusal)


def note_markup(text: str) -> Markup:
    """A note's text with its line breaks and tabs; other invisible characters are spelled out."""
    return Markup("\n").join(
        Markup("\t").join(visible(part) if part else Markup("") for part in line.split("\t"))
        for line in text.split("\n")
    )
