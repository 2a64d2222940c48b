"""Notes on neurons as JSON."""

from __future__ import annotations

from pydantic import Field

from app.schemas import Note, Schema
from indexer.store.notes import MAX_AUTHOR, MAX_TEXT


class NewNote(Schema):
    """A note to be written."""

    author: str = Field(
        description="The author, in one line.",
        json_schema_extra={"minLength": 1, "maxLength": MAX_AUTHOR},
    )
    text: str = Field(
        description="Plain text, without control characters except line breaks and tabs.",
        json_schema_extra={"minLength": 1, "maxLength": MAX_TEXT},
    )


class NoteList(Schema):
    """Notes, newest first."""

    items: list[Note]
    next: str | None = Field(description="The `cursor` of the next page; null: this is the last.")


class NotesPage(NoteList):
    """A page of a neuron's notes."""

    model: str
    layer: int
    neuron: int
    count: int = Field(description="The number of notes on the neuron.")


class NotesIndex(NoteList):
    """A page of the notes on all neurons of a model, or of all models."""

    model: str | None = Field(description="null: all models.")
    count: int = Field(description="The number of notes on all pages.")
