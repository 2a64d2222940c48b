"""Notes on neurons: apart from the schemas of pages, as they are no part of a run."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from app.schemas import Schema
from indexer.store.notes import MAX_AUTHOR, MAX_TEXT


class NewNote(Schema):
    """A note to keep."""

    author: str = Field(
        description="Who writes, in one line.",
        json_schema_extra={"minLength": 1, "maxLength": MAX_AUTHOR},
    )
    text: str = Field(
        description="Plain text. Of control characters only line breaks and tabs are taken.",
        json_schema_extra={"minLength": 1, "maxLength": MAX_TEXT},
    )


class Note(Schema):
    """What somebody wrote on a neuron."""

    id: int = Field(description="Its number, never given again.")
    model: str
    layer: int
    neuron: int
    time: datetime = Field(description="When it was written, in UTC.")
    author: str
    text: str


class NoteList(Schema):
    """Notes, newest first."""

    items: list[Note]
    next: str | None = Field(description="Give it as `cursor` for the next page; null: the end.")


class NotesPage(NoteList):
    """A page of a neuron's notes."""

    model: str
    layer: int
    neuron: int
    count: int = Field(description="All of the neuron's notes.")
