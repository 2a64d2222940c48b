"""Reads, writes and deletes notes for a server with --notes; only such a server opens the store for
writing, with connections of their own, so that readers never wait for writers."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from app.errors import Forbidden, Invalid, NotFound, ReadOnly, Unavailable
from app.notes.rules import author_line, moment, note_text
from app.notes.schemas import NewNote
from app.reading import cursors
from app.schemas import Note
from app.settings import Settings
from app.web.frame import Marks
from indexer.errors import NeurariumError
from indexer.store import notes as store
from indexer.store.failures import is_refusal
from indexer.store.notes import Place

LEAST_TOKEN = 16
"""The fewest characters of a token."""
RETRY = 5
"""Seconds after which a client may try again if the database is busy."""
WRITERS = 8
"""The most changes at the same time."""
_MAX_ID = 2**63 - 1
_READ_ONLY = "The server's database is read-only: nothing was changed."
_BUSY = (
    "Another process, such as an indexer, is writing to the store: nothing was changed. "
    "Try again in a moment."
)


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

    def __init__(self, engine: Engine, writer: Engine, token: str) -> None:
        """`engine` reads; `writer` has connections of its own. Raises NeurariumError."""
        self._engine, self._writer = engine, writer
        self._token = token.encode()
        self.writable = store.prepare(writer)
        """Whether the database can be written."""
        self._exist = self.writable or store.exist(engine)
        self._waiting = threading.BoundedSemaphore(WRITERS)

    def close(self) -> None:
        """Close the connections that write."""
        self._writer.dispose()

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
        empty = store.Notes([], 0, 0)
        page = store.read(self._engine, of, limit + 1, before) if self._exist else empty
        items = [Note.model_validate(store.fields(row)) for row in page.rows[:limit]]
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
        return [Note.model_validate(store.fields(row)) for row in rows]

    def newest(self, places: Iterable[Place]) -> dict[Place, str]:
        """The text of the newest note on each of the neurons that have any."""
        return store.newest(self._engine, places) if self._exist else {}

    def marks(self, models: Iterable[str]) -> Marks:
        """How many notes the neurons of the models have."""
        if not self._exist:
            return Marks({}, "notes 0 0")
        counts, highest = store.counts(self._engine, sorted(models))
        return Marks(counts, f"notes {sum(counts.values())} {highest}")

    def add(self, place: Place, sent: NewNote) -> Note:
        """Store a note on a neuron, which has to exist. Raises Invalid, ReadOnly,
        Unavailable."""
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
        with self._turn():
            number = store.add(self._writer, note)
        return Note.model_validate({"id": number, **asdict(note)})

    def remove(self, place: Place, number: int) -> Note:
        """Delete a note on a neuron, and return it. Raises NotFound, ReadOnly, Unavailable."""
        with self._turn():
            row = store.remove(self._writer, place, number)
        if row is None:
            raise NotFound(
                f"Neuron {place.neuron} in layer {place.layer} of {place.model} has no note "
                f"{number}."
            )
        return Note.model_validate(store.fields(row))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """A turn to write. Raises ReadOnly; Unavailable if a lock lasts too long, or if too many
        are waiting already: each takes a thread from readers."""
        if not self.writable:
            raise ReadOnly(_READ_ONLY)
        if not self._waiting.acquire(blocking=False):
            raise Unavailable(_BUSY, retry_after=RETRY)
        try:
            yield
        except DBAPIError as error:
            if is_refusal(error):
                raise ReadOnly(_READ_ONLY) from None
            if isinstance(error, OperationalError) and "lock" in str(error.orig).lower():
                raise Unavailable(_BUSY, retry_after=RETRY) from None
            raise
        finally:
            self._waiting.release()


def token_of(settings: Settings) -> str | None:
    """The token for writing notes; None if notes are switched off. Raises NeurariumError if it is
    missing or cannot be used."""
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
    return token


def _before(cursor: str) -> tuple[datetime, int]:
    time, number = cursors.decode(cursor, str, int)
    try:
        if 0 <= number <= _MAX_ID:
            return moment(time), number
    except ValueError:
        pass
    raise Invalid(cursors.BAD_CURSOR)
