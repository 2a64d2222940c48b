"""Lists, finds and deletes runs, for the command line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, delete, func, select

from indexer.store import schema
from indexer.store.database import changing
from indexer.store.text import index as text_index
from indexer.store.units import Units


@dataclass(frozen=True)
class RunSummary:
    """A run, as `neurarium runs` shows it."""

    id: int
    model: str
    model_id: str
    set_name: str
    noun: str
    hook_point: str
    corpus: str
    dtype: str
    neurons: int
    tokens: int
    created_at: datetime


def list_runs(engine: Engine) -> list[RunSummary]:
    """All runs, oldest first."""
    table = schema.runs
    with engine.connect() as connection:
        rows = connection.execute(select(table).where(table.c.ready).order_by(table.c.id)).all()
    return [
        RunSummary(
            id=row.id,
            model=row.model,
            model_id=row.model_id,
            set_name=row.set_name,
            noun=Units.of(row.units).noun,
            hook_point=row.hook_point,
            corpus=row.corpus,
            dtype=row.dtype,
            neurons=sum(row.widths),
            tokens=row.tokens,
            created_at=row.created_at,
        )
        for row in rows
    ]


def delete_run(engine: Engine, run_id: int) -> bool:
    """Delete a run and all its rows, but no notes. False if there is no such run."""
    first, last = schema.key_range(run_id)
    with changing(engine, alone=True) as connection:
        row = connection.execute(
            select(schema.runs.c.vocabulary_id).where(schema.runs.c.id == run_id)
        ).one_or_none()
        if row is None:
            return False
        neurons = schema.neurons
        owned = (schema.examples, schema.neuron_arrays, schema.heads, schema.head_patterns)
        for table in owned:
            connection.execute(delete(table).where(table.c.neuron_id.between(first, last)))
        connection.execute(delete(neurons).where(neurons.c.id.between(first, last)))
        text_index.drop(connection, run_id)
        for table in (
            schema.contexts,
            schema.corpus_counts,
            schema.layers,
            schema.neuron_columns,
            schema.token_neurons,
        ):
            connection.execute(delete(table).where(table.c.run_id == run_id))
        connection.execute(delete(schema.runs).where(schema.runs.c.id == run_id))
        _drop_unused_vocabulary(connection, row.vocabulary_id)
    return True


def find_scan(engine: Engine, scan_id: str) -> int | None:
    """The id of the run written from a scan, or None."""
    runs = schema.runs
    with engine.connect() as connection:
        rows = connection.execute(select(runs.c.id, runs.c.provenance).where(runs.c.ready))
        ids = [row.id for row in rows if row.provenance.get("scan") == scan_id]
    return int(ids[0]) if ids else None


def _drop_unused_vocabulary(connection: Connection, vocabulary_id: int) -> None:
    runs, vocabulary, vocabularies = schema.runs, schema.vocabulary, schema.vocabularies
    used = select(func.count()).where(runs.c.vocabulary_id == vocabulary_id)
    if connection.scalar(used) == 0:
        connection.execute(delete(vocabulary).where(vocabulary.c.vocabulary_id == vocabulary_id))
        connection.execute(delete(vocabularies).where(vocabularies.c.id == vocabulary_id))
