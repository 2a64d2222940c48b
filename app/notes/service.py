"""Reads, writes and deletes notes for a server with --notes; only such a server opens the store for
writing."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from app.errors import Forbidden, Invalid, NotFound, Unavailable
from app.notes.schemas import NewNote
from app.notes.text import author_line, moment, note_text
from app.reading import cursors
from app.schemas import Note
from app.settings import Settings
from app.web.frame import Marks
from indexer.errors import NeurariumError
from indexer.store import notes as store
from indexer.store.database import open_store
from indexer.store.notes import Place

LEAST_TOKEN = 16
"""The fewest characters of a token."""
RETRY = 5
"""Seconds after which a client may try again if the database is busy."""
_MAX_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class NotesRead:
    """One page of notes, newest first."""

    items: list[Note]
    next: str | None
    """The cursor of the next page."""
    count: int
    """The number of notes on all pages."""
    version: str
    """Changes with every new or deleted note: for ETags."""


class ServedNotes:
    """The notes of one store. Safe to share between threads."""

    def __init__(self, engine: Engine, token: str) -> None:
        self._engine = engine
        self._token = token.encode()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def check(self, token: str) -> None:
        """Raises Forbidden unless this is the server's token."""
        if not secrets.compare_digest(token.encode("utf-8", "surrogatepass"), self._token):
            raise Forbidden(
                "This is not the server's token for notes: ask whoever runs the server. Nothing "
                "was changed."
            )

    def read(self, of: Place | str | None, limit: int, cursor: str | None = None) -> NotesRead:
        """A page of the notes on a neuron, on all neurons of a model (given its name), or of all
        notes. Raises Invalid for a bad cursor."""
        before = None if cursor is None else _before(cursor)
        page = store.read(self._engine, of, limit + 1, before)
        items = [Note.model_validate(dict(row._mapping)) for row in page.rows[:limit]]
        more = len(page.rows) > limit
        return NotesRead(
            items=items,
            next=cursors.encode(items[-1].time.isoformat(), items[-1].id) if more else None,
            count=page.count,
            version=f"notes {page.count} {page.highest}",
        )

    def of_model(self, model: str) -> list[Note]:
        """All notes on a model's neurons, newest first."""
        rows = store.of_model(self._engine, model) or []
        return [Note.model_validate(dict(row._mapping)) for row in rows]

    def marks(self, models: Iterable[str]) -> Marks:
        """How many notes the neurons of the models have."""
        counts, highest = store.counts(self._engine, sorted(models))
        return Marks(counts, f"notes {sum(counts.values())} {highest}")

    def add(self, place: Place, sent: NewNote) -> Note:
        """Store a note on a neuron, which has to exist. Raises Invalid, Unavailable."""
        try:
            author, text = author_line(sent.author), note_text(sent.text)
        except ValueError as error:
            raise Invalid(str(error)) from None
        note = store.Note(
            model=place.model,
            layer=place.layer,
            neuron=place.neuron,
            time=datetime.now(UTC),
            author=author,
            text=text,
        )
        with _waiting():
            number = store.add(self._engine, note)
        return Note.model_validate({"id": number, **asdict(note)})

    def remove(self, place: Place, number: int) -> Note:
        """Delete a note on a neuron, and return it. Raises NotFound, Unavailable."""
        with _waiting():
            row = store.remove(self._engine, place, number)
        if row is None:
            raise NotFound(
                f"Neuron {place.neuron} in layer {place.layer} of {place.model} has no note "
                f"{number}."
            )
        return Note.model_validate(dict(row._mapping))


def served_notes(settings: Settings) -> ServedNotes | None:
    """The server's notes; None if they are switched off. Raises NeurariumError for bad settings."""
    if not settings.notes:
        return None
    token = settings.notes_token.get_secret_value() if settings.notes_token else ""
    if not token:
        raise NeurariumError(
            "Notes need a token that writers have to know: set NEURARIUM_NOTES_TOKEN to "
            f"{LEAST_TOKEN} characters or more."
        )
    if len(token) < LEAST_TOKEN:
        raise NeurariumError(
            f"NEURARIUM_NOTES_TOKEN has {len(token)} characters: the minimum is {LEAST_TOKEN}."
        )
    if not all("!" <= character <= "~" for character in token):
        raise NeurariumError(
            "NEURARIUM_NOTES_TOKEN cannot be sent in a header: use only ASCII letters, digits and "
            "punctuation, without spaces."
        )
    engine = open_store(settings.database_url, create=True, patience=store.PATIENCE)
    try:
        store.prepare(engine)
    except NeurariumError:
        engine.dispose()
        raise
    return ServedNotes(engine, token)


def _before(cursor: str) -> tuple[datetime, int]:
    time, number = cursors.decode(cursor, str, int)
    try:
        if 0 <= number <= _MAX_ID:
            return moment(time), number
    except ValueError:
        pass
    raise Invalid(cursors.BAD_CURSOR)


@contextmanager
def _waiting() -> Iterator[None]:
    """Turn a lock that lasts too long into Unavailable."""
    try:
        yield
    except OperationalError as error:
        if "lock" not in str(error.orig).lower():
            raise
        raise Unavailable(
            "Another process, such as an indexer, is writing to the store: nothing was changed. "
            "Try again in a moment.",
            retry_after=RETRY,
        ) from None
