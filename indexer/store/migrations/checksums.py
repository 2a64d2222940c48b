"""Schema 4 → 5: every row of a run carries a checksum, and rows that may be absent name the one
before them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, Connection, Integer, String, Table, select, text, update
from sqlalchemy import bindparam as bound

from indexer.store import schema
from indexer.store.check import rehash
from indexer.store.checksums import covers
from indexer.store.text import index as text_index
from indexer.store.writing.run import finish_run

_CHUNK = 500
_NEURON_TABLES = (
    *(schema.neurons, schema.neuron_arrays, schema.examples),
    *(schema.heads, schema.head_patterns),
)
_RUN_TABLES = (schema.layers, schema.neuron_columns, schema.corpus_counts)


def upgrade(
    connection: Connection, operations: Operations, say: Callable[[str], None]
) -> list[int]:
    """Add the columns and fill them. A run whose rows do not give its content hash is damaged
    already: it gets no checksum, so that its pages are refused. Returns those runs."""
    _add_columns(operations)
    damaged = []
    for run in connection.execute(select(schema.runs).order_by(schema.runs.c.id)).all():
        say(f"Checking run {run.id} ({run.model}), and writing its checksums")
        if rehash(connection, run) != run.content_hash:
            damaged.append(run.id)
            continue
        first, last = schema.key_range(run.id)
        for table in _NEURON_TABLES:
            key = next(iter(table.primary_key))
            _fill(connection, table, key.between(first, last))
        for table in _RUN_TABLES:
            _fill(connection, table, table.c.run_id == run.id)
        contexts, tokens = schema.contexts, schema.token_neurons
        finish_run(
            connection,
            run.id,
            last_context=_fill(
                connection, contexts, contexts.c.run_id == run.id, lambda row: row.context_id
            ),
            last_token=_fill(
                connection,
                tokens,
                tokens.c.run_id == run.id,
                lambda row: schema.token_key(row.token_id, row.role),
            ),
            text_digest=text_index.digest(connection, run.id),
        )
    return damaged


def _add_columns(operations: Operations) -> None:
    """The columns as they were in schema 5, whatever later versions make of them."""
    zero, none = text("0"), text("-1")

    def checksum(name: str = "checksum") -> Column[Any]:
        return Column(name, Integer, nullable=False, server_default=zero)

    def chain(name: str) -> Column[Any]:
        return Column(name, BigInteger, nullable=False, server_default=none)

    digest = Column("text_digest", String(64), nullable=False, server_default=text("''"))
    for column in (chain("last_context"), chain("last_token"), digest, checksum()):
        operations.add_column("runs", column)
    operations.add_column("contexts", chain("previous"))
    operations.add_column("contexts", checksum())
    operations.add_column("contexts", checksum("neurons_checksum"))
    operations.add_column("token_neurons", chain("previous"))
    names = (
        *("layers", "neurons", "neuron_arrays", "neuron_columns", "token_neurons", "examples"),
        *("corpus_counts", "heads", "head_patterns"),
    )
    for name in names:
        operations.add_column(name, checksum())


def _fill(
    connection: Connection, table: Table, where: Any, link: Callable[[Any], int] | None = None
) -> int:
    """Write the checksums of rows, and with `link`, which gives a row's place in its chain, the
    place before it. Returns the last place, or −1."""
    keys = list(table.primary_key)
    rules = covers(table)
    names = [rule.checksum.name for rule in rules] + (["previous"] if link else [])
    statement = (
        update(table)
        .where(*(key == bound(f"key_{key.name}") for key in keys))
        .values({name: bound(f"new_{name}") for name in names})
    )
    last = -1
    for rows in _chunks(connection, table, where):
        changes = []
        for row in rows:
            values = dict(row._mapping)
            if link:
                values["previous"], last = last, link(row)
            for rule in rules:
                covered = [values[column.name] for column in rule.columns]
                values[rule.checksum.name] = rule.of(covered)
            changes.append(
                {f"key_{key.name}": values[key.name] for key in keys}
                | {f"new_{name}": values[name] for name in names}
            )
        connection.execute(statement, changes)
    return last


def _chunks(connection: Connection, table: Table, where: Any) -> Iterator[Any]:
    """Rows in order of their keys. Not one open SELECT, since the rows are changed meanwhile."""
    keys = list(table.primary_key)
    order = select(*keys).where(where).order_by(*keys)
    every = connection.execute(order).all()
    for begin in range(0, len(every), _CHUNK):
        chunk = every[begin : begin + _CHUNK]
        rows = []
        for key in chunk:
            at = (column == value for column, value in zip(keys, key, strict=True))
            rows.append(connection.execute(select(table).where(*at)).one())
        yield rows
