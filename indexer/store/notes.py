"""Notes that people write on neurons: a table of its own beside the runs.

A note belongs to a model's name, a layer and a neuron, not to a run: every run of the model shows
it, and it stays when one is deleted, even the last, to be shown again by the next.

The table is made by whoever first wants to write (`prepare`), not with the store. So a store that
nobody writes notes in is the same to the byte as ever and needs no other version of the schema, and
a server without notes neither asks for the table nor writes anything.

What changes the table does so one after another. Numbers of notes only grow therefore, and how many
there are, with the highest number, says which: what tags are made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    inspect,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from indexer.errors import NeurariumError
from indexer.store.database import changing_apart, shown, unusable
from indexer.store.schema import UtcDateTime

MAX_MODEL, MAX_AUTHOR, MAX_TEXT = 100, 80, 4_000
"""Characters of a model's name, an author line, a note."""
MAX_INDEX = 2**31 - 1
"""Of a layer, of a neuron."""
PATIENCE = 5
"""Seconds that a visitor's note waits for another writer to end."""
_AT_ONCE = 500

_notes = Table(
    "notes",
    MetaData(),  # not the store's: it would be made with every store
    Column(
        "id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    Column("model", String(MAX_MODEL), nullable=False),
    Column("layer", Integer, nullable=False),
    Column("neuron", Integer, nullable=False),
    Column("time", UtcDateTime, nullable=False),
    Column("author", String(MAX_AUTHOR), nullable=False),
    Column("text", String(MAX_TEXT), nullable=False),
    Index("ix_notes_place", "model", "layer", "neuron", "time", "id"),
    Index("ix_notes_time", "time", "id"),
    sqlite_autoincrement=True,  # the number of a deleted note is not given again
)


@dataclass(frozen=True, slots=True)
class Place:
    """A neuron of every run of a model."""

    model: str
    layer: int
    neuron: int


@dataclass(frozen=True, slots=True)
class Note:
    """One note, as it is written."""

    model: str
    layer: int
    neuron: int
    time: datetime
    """With a zone."""
    author: str
    text: str


@dataclass(frozen=True, slots=True)
class Notes:
    """Some of a neuron's notes or of all, and what there is."""

    rows: list[Row[Any]]
    """Newest first, each with the fields of `Note` and its `id`."""
    count: int
    """Of all, not of `rows` alone."""
    highest: int
    """The highest number of any; 0 where there is none."""


def prepare(engine: Engine) -> None:
    """Make the table, unless it is there. Raises NeurariumError where that cannot be done."""
    try:
        if inspect(engine).has_table(_notes.name):
            return
        with changing_apart(engine) as connection:
            if engine.dialect.name == "postgresql":  # two servers that start at once
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('notes'))"))
            _notes.metadata.create_all(connection)
    except DBAPIError as error:
        raise NeurariumError(unusable(error, shown(engine.url))) from None


def read(
    engine: Engine, place: Place | None, limit: int, before: tuple[datetime, int] | None = None
) -> Notes:
    """The newest notes of a neuron, or of all, that come after `before` in that order: the time
    and number of the last of the page before. Reads one state of the store."""
    if place is not None and not _can_be(place):
        return Notes([], 0, 0)
    here = [] if place is None else _at(place)
    wanted = select(_notes).where(*here)
    if before is not None:
        time, number = before
        earlier = and_(_notes.c.time == time, _notes.c.id < number)
        wanted = wanted.where(or_(_notes.c.time < time, earlier))
    wanted = wanted.order_by(_notes.c.time.desc(), _notes.c.id.desc()).limit(limit)
    numbers = select(func.count(_notes.c.id), func.max(_notes.c.id)).where(*here)
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        count, highest = connection.execute(numbers).one()
        rows = list(connection.execute(wanted)) if count else []
    return Notes(rows, count, highest or 0)


def walk(engine: Engine) -> Iterator[Note]:
    """All notes, oldest first; none where there is no table."""
    if not inspect(engine).has_table(_notes.name):
        return
    columns = [column for column in _notes.c if column.name != "id"]
    with engine.connect() as connection:
        rows = connection.execution_options(yield_per=_AT_ONCE).execute(
            select(*columns).order_by(_notes.c.time, _notes.c.id)
        )
        for row in rows:
            yield Note(*row)


def add(engine: Engine, note: Note) -> int:
    """Keep a note; its number."""
    with _changing(engine, PATIENCE) as connection:
        result = connection.execute(insert(_notes).values(asdict(note)))
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def remove(engine: Engine, place: Place, number: int) -> Row[Any] | None:
    """Delete a note of a neuron; what it was, or None where there is no such note."""
    with _changing(engine, PATIENCE) as connection:
        row = connection.execute(select(_notes).where(_notes.c.id == number)).one_or_none()
        if row is None or Place(row.model, row.layer, row.neuron) != place:
            return None
        connection.execute(delete(_notes).where(_notes.c.id == number))
    return row


def merge(engine: Engine, notes: Iterable[Note]) -> tuple[int, int]:
    """Keep those of `notes` that are not there yet, in all that is in them: how many were added,
    and how many were there. All of them or, if anything goes wrong, none."""
    count = select(func.count(_notes.c.id))
    new = {column.name: bindparam(f"new_{column.name}", type_=column.type) for column in _notes.c}
    del new["id"]
    same = select(literal(1)).where(*(_notes.c[name] == value for name, value in new.items()))
    statement = insert(_notes).from_select([*new], select(*new.values()).where(~same.exists()))
    given, coming = 0, iter(notes)
    with _changing(engine) as connection:
        before = connection.scalar(count) or 0
        while some := list(islice(coming, _AT_ONCE)):
            given += len(some)
            rows = [{f"new_{k}": v for k, v in asdict(note).items()} for note in some]
            connection.execute(statement, rows)
        added = (connection.scalar(count) or 0) - before
    return added, given - added


@contextmanager
def _changing(engine: Engine, patience: int = 0) -> Iterator[Connection]:
    """A transaction that changes notes; on either database one at a time. `patience`: seconds to
    wait for another on PostgreSQL (0: for ever); on SQLite the engine has its own."""
    with changing_apart(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = '{patience}s'"))
            connection.execute(text("LOCK TABLE notes IN SHARE ROW EXCLUSIVE MODE"))
        yield connection


def _at(place: Place) -> list[Any]:
    return [
        _notes.c.model == place.model,
        _notes.c.layer == place.layer,
        _notes.c.neuron == place.neuron,
    ]


def _can_be(place: Place) -> bool:
    """Whether a database can be asked about a place; it may be whatever stood in an address."""
    name = place.model
    return (
        max(place.layer, place.neuron) <= MAX_INDEX
        and len(name) <= MAX_MODEL
        and not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in name)
    )
