"""Records → rows: a run is written in one transaction, so it is there whole or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection, Engine, Table, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from indexer.store import schema
from indexer.store.codec import (
    LAYER_ARRAYS,
    NEURON_ARRAYS,
    ExampleArrays,
    arrays_bytes,
    examples_bytes,
    pack_arrays,
    pack_examples,
    pack_numbers,
    pack_token_ids,
)
from indexer.store.database import changing
from indexer.store.schema import Row

_ROWS = 500  # rows an executemany: the memory of one call, not its speed, is what matters

Array = np.ndarray[Any, Any]
Item = TypeVar("Item")


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run when its scan has ended."""

    model: str
    model_id: str
    revision: str | None
    hook_point: str
    is_default_hook_point: bool
    corpus: str
    dtype: str
    ctx_len: int
    contexts: int
    tokens: int
    sample_contexts: int
    sample_positions: int
    widths: tuple[int, ...]
    sources: tuple[str, ...]
    vocabulary: list[bytes]
    provenance: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class NeuronRecord:
    """One neuron: its scalars by column, its small arrays by codec.NEURON_ARRAYS, its examples."""

    layer: int
    neuron: int
    scalars: dict[str, float | int | bool | None]
    arrays: dict[str, Array]
    examples: tuple[ExampleArrays, ...]  # in the order of schema.KINDS


@dataclass(frozen=True)
class ContextRecord:
    """One context that is an example of some neuron."""

    context_id: int
    document_index: int
    source_index: int
    included_from: int
    token_ids: Array
    top_neurons: Array  # flat indices, ascending


class ContentHash:
    """SHA-256 over all a run holds, in key order, without ids, times, versions or machine."""

    def __init__(self, run: RunRecord) -> None:
        self._sha = hashlib.sha256()
        counts = (run.ctx_len, run.contexts, run.tokens, run.sample_contexts, run.sample_positions)
        facts = (run.hook_point, counts, run.widths, run.sources)
        self._sha.update(json.dumps(facts).encode())
        self._sha.update(_vocabulary_identity(run.vocabulary).encode())

    def add_neuron(self, record: NeuronRecord) -> None:
        """Neurons come in order of (layer, neuron), before all contexts."""
        self._sha.update(struct.pack("<2q", record.layer, record.neuron))
        for name in sorted(record.scalars):
            value = record.scalars[name]
            self._sha.update(struct.pack("<d", np.nan if value is None else value + 0.0))
        self._sha.update(arrays_bytes(record.arrays, NEURON_ARRAYS))
        for examples in record.examples:
            self._sha.update(examples_bytes(examples))

    def add_context(self, record: ContextRecord) -> None:
        """Contexts come in order of their id."""
        place = (record.context_id, record.document_index, record.source_index)
        self._sha.update(struct.pack("<4q", *place, record.included_from))
        self._sha.update(pack_token_ids(record.token_ids))
        self._sha.update(pack_numbers(record.top_neurons))

    def hexdigest(self) -> str:
        """The hash so far."""
        return self._sha.hexdigest()


def write_run(
    engine: Engine,
    run: RunRecord,
    neurons: Iterable[NeuronRecord],
    contexts: Iterable[ContextRecord],
) -> int:
    """Write a run and return its id.

    Args:
        engine: an open store.
        run: the run's facts.
        neurons: all its neurons, by (layer, neuron).
        contexts: all contexts its examples name, by id.

    Raises what the database raises; nothing is written then.
    """
    content = ContentHash(run)
    with changing(engine) as connection:
        run_id = _insert_run(connection, run)
        offsets = list(itertools.accumulate(run.widths, initial=0))
        for layer, group in itertools.groupby(neurons, key=lambda record: record.layer):
            _write_layer(connection, run_id, layer, offsets[layer], group, content)
        _write_contexts(connection, run_id, contexts, content)
        ready = {"content_hash": content.hexdigest(), "ready": True}
        connection.execute(update(schema.runs).where(schema.runs.c.id == run_id).values(**ready))
    return run_id


def _insert_run(connection: Connection, run: RunRecord) -> int:
    fields = {
        name: getattr(run, name)
        for name in RunRecord.__dataclass_fields__
        if name not in ("vocabulary", "widths", "sources")
    }
    result = connection.execute(
        insert(schema.runs).values(
            **fields,
            widths=list(run.widths),
            sources=list(run.sources),
            vocabulary_id=_vocabulary_id(connection, run),
            content_hash="",
            ready=False,
        )
    )
    key = result.inserted_primary_key
    assert key is not None  # an INSERT of one row always has one
    return int(key[0])


def _vocabulary_id(connection: Connection, run: RunRecord) -> int:
    """The id of the run's vocabulary, written if no run has brought it yet."""
    table = schema.vocabularies
    identity = _vocabulary_identity(run.vocabulary)
    new = _insert_new(connection)(table).values(identity=identity).on_conflict_do_nothing()
    brought = connection.execute(new.returning(table.c.id)).scalar_one_or_none()
    if brought is None:
        known = select(table.c.id).where(table.c.identity == identity)
        return int(connection.execute(known).scalar_one())
    rows: Iterator[Row] = (
        {"vocabulary_id": brought, "token_id": token_id, "bytes": value}
        for token_id, value in enumerate(run.vocabulary)
    )
    _insert_many(connection, schema.vocabulary, rows)
    return int(brought)


def _insert_new(connection: Connection) -> Any:
    """The dialect's INSERT that can pass over rows that are there."""
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def _vocabulary_identity(vocabulary: list[bytes]) -> str:
    """A hash of the tokens themselves: two tokenizers with the same tokens share one."""
    content = hashlib.blake2b(digest_size=32)
    for token in vocabulary:
        content.update(struct.pack("<I", len(token)) + token)
    return content.hexdigest()


def _write_layer(
    connection: Connection,
    run_id: int,
    layer: int,
    offset: int,
    records: Iterable[NeuronRecord],
    content: ContentHash,
) -> None:
    dead, maxima, densities = 0, [], []
    for some in _batched(records, _ROWS):
        neuron_rows: list[Row] = []
        array_rows: list[Row] = []
        example_rows: list[Row] = []
        for record in some:
            content.add_neuron(record)
            key = schema.neuron_key(run_id, offset + record.neuron)
            neuron_rows.append(_neuron_row(run_id, key, record))
            array_rows.append({"neuron_id": key, "packed": pack_arrays(record.arrays)})
            example_rows += [
                {"neuron_id": key, "kind": kind, "packed": pack_examples(examples)}
                for kind, examples in enumerate(record.examples)
                if len(examples)
            ]
            dead += bool(record.scalars["dead"])
            maxima.append(float(record.scalars["max"] or 0.0))
            densities.append(float(record.scalars["density"] or 0.0))
        _insert(connection, schema.neurons, neuron_rows)
        _insert(connection, schema.neuron_arrays, array_rows)
        _insert(connection, schema.examples, example_rows)
    levels = np.linspace(0, 1, 21)
    arrays = {
        "max_quantiles": np.quantile(maxima, levels),
        "density_quantiles": np.quantile(densities, levels),
    }
    connection.execute(
        insert(schema.layers).values(
            run_id=run_id,
            layer=layer,
            neurons=len(maxima),
            dead=dead,
            max=max(maxima),
            mean_max=sum(maxima) / len(maxima),
            mean_density=sum(densities) / len(densities),
            arrays=pack_arrays(arrays, LAYER_ARRAYS),
        )
    )


def _neuron_row(run_id: int, key: int, record: NeuronRecord) -> Row:
    place = {"id": key, "run_id": run_id, "layer": record.layer, "neuron": record.neuron}
    return place | {name: _plain(value) for name, value in record.scalars.items()}


def _plain(value: float | int | bool | None) -> float | int | bool | None:
    """−0 as 0: SQLite keeps no sign of it, PostgreSQL does."""
    return value + 0.0 if isinstance(value, float) else value


def _write_contexts(
    connection: Connection,
    run_id: int,
    records: Iterable[ContextRecord],
    content: ContentHash,
) -> None:
    def rows() -> Iterator[Row]:
        for record in records:
            content.add_context(record)
            yield {
                "run_id": run_id,
                "context_id": record.context_id,
                "document_index": record.document_index,
                "source_index": record.source_index,
                "included_from": record.included_from,
                "token_ids": pack_token_ids(record.token_ids),
                "top_neurons": pack_numbers(record.top_neurons),
            }

    _insert_many(connection, schema.contexts, rows())


def _insert_many(connection: Connection, table: Table, rows: Iterator[Row]) -> None:
    for some in _batched(rows, _ROWS):
        _insert(connection, table, some)


def _insert(connection: Connection, table: Table, rows: list[Row]) -> None:
    """Rows of one table, all with the same columns: COPY on PostgreSQL, executemany elsewhere."""
    if not rows:
        return
    if connection.dialect.name != "postgresql":
        connection.execute(insert(table), rows)
        return
    columns = list(rows[0])
    names = ", ".join(f'"{name}"' for name in columns)
    cursor = connection.connection.cursor()
    with cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
        for row in rows:
            copy.write_row([row[name] for name in columns])
    cursor.close()


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while some := list(itertools.islice(iterator, size)):
        yield some
