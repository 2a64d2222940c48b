"""Notes that people write on neurons, in a table of their own beside the runs.

A note belongs to a model's name, a layer and a neuron, not to a run: all runs of the model show it,
and it survives their deletion.

`prepare` creates the table when a server first allows notes. Stores without notes therefore do not
change, and need no new schema version.

Changes of the table happen one at a time, so ids of notes only grow. The count of notes together
with the highest id identifies the current state, which HTTP tags rely on.

Every note carries a checksum of all its columns, checked whenever its text is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
    update,
)
from sqlalchemy.exc import DBAPIError

from indexer.errors import NeurariumError
from indexer.store.checksums import Cover, DamagedNote
from indexer.store.database import changing_apart, is_read_only, without_password
from indexer.store.failures import is_refusal, unusable
from indexer.store.schema import UtcDateTime

MAX_MODEL, MAX_AUTHOR, MAX_TEXT = 100, 80, 4_000
"""Most characters in a model's name, an author line, a note."""
MAX_INDEX = 2**31 - 1
"""Largest layer or neuron index."""
PATIENCE = 2
"""Seconds a change of a note waits for another writer."""
_BATCH = 500

_notes = Table(
    "notes",
    MetaData(),  # not the store's, so that only `prepare` creates it
    Column(
        "id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    ),
    Column("model", String(MAX_MODEL), nullable=False),
    Column("layer", Integer, nullable=False),
    Column("neuron", Integer, nullable=False),
    Column("time", UtcDateTime, nullable=False),
    Column("author", String(MAX_AUTHOR), nullable=False),
    Column("text", String(MAX_TEXT), nullable=False),
    Column("checksum", Integer, nullable=False, server_default=text("0")),
    Index("ix_notes_place", "model", "layer", "neuron", "time", "id"),
    Index("ix_notes_time", "time", "id"),
    sqlite_autoincrement=True,  # ids of deleted notes are not reused
)


_COVER = Cover(_notes, "checksum", [c.name for c in _notes.c if c.name != "checksum"])


@dataclass(frozen=True, slots=True)
class Place:
    """A neuron, in all runs of a model."""

    model: str
    layer: int
    neuron: int


@dataclass(frozen=True, slots=True)
class Note:
    """A note without its id."""

    model: str
    layer: int
    neuron: int
    time: datetime
    """With a time zone."""
    author: str
    text: str


@dataclass(frozen=True, slots=True)
class Notes:
    """A page of notes, of one neuron or of all neurons."""

    rows: list[Row[Any]]
    """Newest first, for `fields`."""
    count: int
    """The number of all notes; `rows` may have fewer."""
    highest: int
    """The highest id among all; 0 without notes."""


def prepare(engine: Engine) -> bool:
    """Create the table if it is missing. False if the database cannot be written, so that it may
    still be missing. Raises NeurariumError if creating it fails otherwise."""
    try:
        if not exist(engine):
            with changing_apart(engine) as connection:
                if engine.dialect.name == "postgresql":  # two servers that start at once
                    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('notes'))"))
                _notes.metadata.create_all(connection)
        return _is_writable(engine)
    except DBAPIError as error:
        if is_refusal(error):
            return False
        raise NeurariumError(unusable(error, without_password(engine.url))) from None


def exist(engine: Engine) -> bool:
    """Whether the table of notes is there."""
    return bool(inspect(engine).has_table(_notes.name))


def read(
    engine: Engine, of: Place | str | None, limit: int, before: tuple[datetime, int] | None = None
) -> Notes:
    """The newest notes of a neuron, of a model (given its name), or of all neurons, in one
    consistent read. `before` is the time and id of the last note of the previous page. Raises
    Damaged."""
    place = Place(of, 0, 0) if isinstance(of, str) else of
    if place is not None and not _is_valid(place):
        return Notes([], 0, 0)
    conditions = [] if place is None else _at(place)
    if isinstance(of, str):
        conditions = [_notes.c.model == of]
    wanted = select(*_COVER.selected).where(*conditions)
    if before is not None:
        time, note_id = before
        earlier = and_(_notes.c.time == time, _notes.c.id < note_id)
        wanted = wanted.where(or_(_notes.c.time < time, earlier))
    wanted = wanted.order_by(_notes.c.time.desc(), _notes.c.id.desc()).limit(limit)
    totals = select(func.count(_notes.c.id), func.max(_notes.c.id)).where(*conditions)
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        count, highest = connection.execute(totals).one()
        rows = _whole(connection.execute(wanted)) if count else []
    return Notes(rows, count, highest or 0)


def counts(engine: Engine, models: Sequence[str]) -> tuple[dict[tuple[str, int, int], int], int]:
    """How many notes each neuron of the models has, by model, layer and neuron (only neurons with
    notes), and the highest id among these notes: 0 without any."""
    place = _notes.c.model, _notes.c.layer, _notes.c.neuron
    names = [model for model in models if _is_valid(Place(model, 0, 0))]
    wanted = select(*place, func.count(_notes.c.id), func.max(_notes.c.id)).group_by(*place)
    with engine.connect() as connection:
        rows = connection.execute(wanted.where(_notes.c.model.in_(names))).all() if names else []
    return {(row[0], row[1], row[2]): row[3] for row in rows}, max(
        (row[4] for row in rows), default=0
    )


def newest(engine: Engine, places: Iterable[Place]) -> dict[Place, str]:
    """The text of the newest note on each of the neurons that have any; none without the table.
    Raises Damaged."""
    by_layer: dict[tuple[str, int], list[int]] = {}
    for place in filter(_is_valid, places):
        by_layer.setdefault((place.model, place.layer), []).append(place.neuron)
    if not by_layer or not exist(engine):
        return {}
    found: dict[Place, str] = {}
    with engine.connect() as connection:
        for (model, layer), neurons in by_layer.items():
            rank = func.row_number().over(
                partition_by=_notes.c.neuron, order_by=(_notes.c.time.desc(), _notes.c.id.desc())
            )
            all_notes = (
                select(*_COVER.selected, rank.label("rank"))
                .where(_notes.c.model == model, _notes.c.layer == layer)
                .where(_notes.c.neuron.in_(neurons))
                .subquery()
            )
            for row in _whole(connection.execute(select(all_notes).where(all_notes.c.rank == 1))):
                found[Place(model, layer, row.neuron)] = row.text
    return found


def walk(engine: Engine) -> Iterator[Note]:
    """All notes, oldest first; none without the table. Raises Damaged."""
    if not exist(engine):
        return
    wanted = select(*_COVER.selected).order_by(_notes.c.time, _notes.c.id)
    with (
        engine.connect() as connection,
        connection.execution_options(yield_per=_BATCH).execute(wanted) as rows,
    ):
        for part in rows.partitions():
            for row in _whole(part):
                given = fields(row)
                del given["id"]
                yield Note(**given)


def damaged(connection: Connection, model: str | None) -> list[DamagedNote]:
    """The notes on a model's neurons, or all (None), that are not as they were written; none
    without the table."""
    if not inspect(connection).has_table(_notes.name):
        return []
    wanted = select(*_COVER.selected).order_by(_notes.c.id)
    if model is not None:
        wanted = wanted.where(_notes.c.model == model)
    rows = connection.execute(wanted, execution_options={"yield_per": _BATCH})
    return [DamagedNote(row.id) for row in rows if not _COVER.is_whole(row)]


def seal(connection: Connection) -> None:
    """Write the checksums of all notes as they are, of a table that has just got the column."""
    statement = (
        update(_notes).where(_notes.c.id == bindparam("of")).values(checksum=bindparam("sealed"))
    )
    rows = [
        {"of": row.id, "sealed": _COVER.of(row)}
        for row in connection.execute(select(*_COVER.selected))
    ]
    if rows:
        connection.execute(statement, rows)


def of_model(engine: Engine, model: str) -> list[Row[Any]] | None:
    """All notes on a model's neurons, newest first, for `fields`; None without the table. Raises
    Damaged."""
    if not inspect(engine).has_table(_notes.name):
        return None
    wanted = select(*_COVER.selected).where(_notes.c.model == model)
    with engine.connect() as connection:
        return _whole(connection.execute(wanted.order_by(_notes.c.time.desc(), _notes.c.id.desc())))


def add(engine: Engine, note: Note) -> int:
    """Store a note and return its id."""
    with _changing(engine, PATIENCE) as connection:
        (number,) = _free_ids(connection, 1)
        connection.execute(insert(_notes).values(_sealed(number, note)))
    return number


def remove(engine: Engine, place: Place, note_id: int) -> Row[Any] | None:
    """Delete a note of a neuron and return its row, or None if there is no such note. Raises
    Damaged, and then nothing is deleted."""
    wanted = select(*_COVER.selected).where(_notes.c.id == note_id)
    with _changing(engine, PATIENCE) as connection:
        row = next(iter(_whole(connection.execute(wanted))), None)
        if row is None or Place(row.model, row.layer, row.neuron) != place:
            return None
        connection.execute(delete(_notes).where(_notes.c.id == note_id))
    return row


def merge(engine: Engine, notes: Iterable[Note]) -> tuple[int, int]:
    """Store those of `notes` that are not stored yet, all or (on an error) none. Returns how many
    were added and how many were already stored."""
    count = select(func.count(_notes.c.id))
    new = {column.name: bindparam(f"new_{column.name}", type_=column.type) for column in _notes.c}
    fields = {name: value for name, value in new.items() if name not in ("id", "checksum")}
    same = select(literal(1)).where(*(_notes.c[name] == value for name, value in fields.items()))
    statement = insert(_notes).from_select([*new], select(*new.values()).where(~same.exists()))
    given, remaining = 0, iter(notes)
    with _changing(engine) as connection:
        before = connection.scalar(count) or 0
        while batch := list(islice(remaining, _BATCH)):
            given += len(batch)
            numbered = zip(_free_ids(connection, len(batch)), batch, strict=True)
            rows = [_sealed(number, note) for number, note in numbered]
            connection.execute(statement, [{f"new_{k}": v for k, v in r.items()} for r in rows])
        added = (connection.scalar(count) or 0) - before
    return added, given - added


def fields(row: Row[Any]) -> dict[str, Any]:
    """The columns of a note, but for its checksum."""
    return {name: value for name, value in row._mapping.items() if name != "checksum"}


def _whole(rows: Iterable[Row[Any]]) -> list[Row[Any]]:
    """The rows, which begin with what the checksum needs. Raises Damaged."""
    checked = list(rows)
    for row in checked:
        if not _COVER.is_whole(row):
            raise DamagedNote(row.id)
    return checked


def _sealed(number: int, note: Note) -> dict[str, Any]:
    """A note's columns."""
    values = {"id": number, **asdict(note)}
    return values | {"checksum": _COVER.of(list(values.values()))}


def _free_ids(connection: Connection, count: int) -> list[int]:
    """Ids for new notes, of a connection that changes notes. They are given, not left to the
    database, because the checksum has them in it."""
    if connection.dialect.name == "postgresql":
        taken = "SELECT nextval(pg_get_serial_sequence('notes', 'id')) FROM generate_series(1, :n)"
        return [int(number) for number in connection.scalars(text(taken), {"n": count})]
    highest = "SELECT max(n) FROM (SELECT seq AS n FROM sqlite_sequence WHERE name = 'notes' UNION"
    last = connection.scalar(text(f"{highest} SELECT max(id) FROM notes UNION SELECT 0)"))
    return list(range(last + 1, last + 1 + count))


def _is_writable(engine: Engine) -> bool:
    """A PostgreSQL role may be allowed to write notes, and nothing else."""
    if engine.dialect.name != "postgresql":
        return not is_read_only(engine)
    allowed = text(
        "SELECT NOT current_setting('transaction_read_only')::bool "
        "AND has_table_privilege('notes', 'INSERT') AND has_table_privilege('notes', 'DELETE')"
    )
    with engine.connect() as connection:
        return bool(connection.scalar(allowed))


@contextmanager
def _changing(engine: Engine, patience: int = 0) -> Iterator[Connection]:
    """A transaction that changes notes, one at a time. `patience`: seconds to wait for another on
    PostgreSQL (0: no limit); on SQLite the engine's limit holds."""
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


def _is_valid(place: Place) -> bool:
    """Whether a database accepts the place, which comes from a URL, as query parameters."""
    name = place.model
    return (
        max(place.layer, place.neuron) <= MAX_INDEX
        and len(name) <= MAX_MODEL
        and not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in name)
    )
