"""Reads a run as the records it was written from: written again they give the same hash."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, bindparam, select

from indexer.errors import NeurariumError
from indexer.store import schema
from indexer.store.packing.codec import (
    NEURON_ARRAYS,
    ExampleArrays,
    unpack_arrays,
    unpack_counts,
    unpack_kinds,
    unpack_token_ids,
)
from indexer.store.packing.layout import FIELDS, Columns, Windows
from indexer.store.units import Units
from indexer.store.writing.content import SCALARS
from indexer.store.writing.records import ContextRecord, NeuronBlock, RunRecord

Array = np.ndarray[Any, Any]

NOT_COLUMNS = ("vocabulary", "widths", "sources", "units", "token_counts", "source_contexts")
"""The fields of a run that are not plain columns."""
_BLOCK = 256
_CONTEXTS = 1000
_ROWS = (
    select(schema.neurons, schema.neuron_arrays.c.packed.label("arrays"))
    .join(schema.neuron_arrays)
    .where(schema.neurons.c.id.between(bindparam("first"), bindparam("last")))
    .order_by(schema.neurons.c.id)
)
_LISTS = (
    select(schema.examples.c.neuron_id, schema.examples.c.kind, schema.examples.c.packed)
    .where(schema.examples.c.neuron_id.between(bindparam("first"), bindparam("last")))
    .order_by(schema.examples.c.neuron_id, schema.examples.c.kind)
)


@dataclass(frozen=True)
class StoredNeuron:
    """One neuron as it is stored, unpacked."""

    layer: int
    neuron: int
    scalars: dict[str, float]
    """By column; NaN: unknown."""
    arrays: dict[str, Array]
    """By name in codec.NEURON_ARRAYS; one-dimensional."""
    kinds: dict[int, ExampleArrays]
    """Examples by index of their kind."""


def run_row(connection: Connection, run_id: int) -> Row[Any]:
    """The row of a run. Raises NeurariumError if there is no such run."""
    table = schema.runs
    row = connection.execute(select(table).where(table.c.id == run_id, table.c.ready)).one_or_none()
    if row is None:
        raise NeurariumError(f"There is no run {run_id}: `neurarium runs` lists all runs.")
    return row


def read_record(connection: Connection, run: Row[Any]) -> RunRecord:
    """The run's metadata, with its vocabulary."""
    table = schema.vocabulary
    vocabulary = [
        bytes(content)
        for content in connection.scalars(
            select(table.c.bytes)
            .where(table.c.vocabulary_id == run.vocabulary_id)
            .order_by(table.c.token_id)
        )
    ]
    given = {
        field.name: getattr(run, field.name)
        for field in fields(RunRecord)
        if field.name not in NOT_COLUMNS
    }
    counts = schema.corpus_counts
    counted = connection.execute(select(counts).where(counts.c.run_id == run.id)).one_or_none()
    nothing = np.empty(0, np.int64)  # runs of older versions have no counts
    return RunRecord(
        **given,
        vocabulary=vocabulary,
        widths=tuple(run.widths),
        sources=tuple(run.sources),
        units=Units.of(run.units),
        token_counts=nothing if counted is None else unpack_counts(bytes(counted.tokens)),
        source_contexts=nothing if counted is None else unpack_counts(bytes(counted.sources)),
    )


def read_neurons(
    connection: Connection, run_id: int, ranges: Iterable[tuple[int, int]]
) -> Iterator[list[StoredNeuron]]:
    """Neurons as stored, in lists of at most 256. `ranges` are first and last flat indices."""
    for first, last in ranges:
        for begin in range(first, last + 1, _BLOCK):
            end = min(last, begin + _BLOCK - 1)
            keys = {
                "first": schema.neuron_key(run_id, begin),
                "last": schema.neuron_key(run_id, end),
            }
            lists: dict[int, list[tuple[int, bytes]]] = {}
            for key, kind, packed in connection.execute(_LISTS, keys).all():
                lists.setdefault(key, []).append((kind, packed))
            yield [
                StoredNeuron(
                    layer=row.layer,
                    neuron=row.neuron,
                    scalars={name: _number(getattr(row, name)) for name in SCALARS},
                    arrays=unpack_arrays(bytes(row.arrays)),
                    kinds=unpack_kinds(lists.get(row.id, [])),
                )
                for row in connection.execute(_ROWS, keys).all()
            ]


def read_blocks(connection: Connection, run: Row[Any]) -> Iterator[NeuronBlock]:
    """All neurons of a run in order, as the writer takes them."""
    first = 0
    for width in run.widths:
        for neurons in read_neurons(connection, run.id, [(first, first + width - 1)]):
            yield block_of(neurons)
        first += width


def read_contexts(connection: Connection, run_id: int) -> Iterator[ContextRecord]:
    """All stored contexts of a run by id."""
    table = schema.contexts
    columns = [table.c[field.name] for field in fields(ContextRecord)]
    after = -1
    while True:
        rows = connection.execute(
            select(*columns)
            .where(table.c.run_id == run_id, table.c.context_id > after)
            .order_by(table.c.context_id)
            .limit(_CONTEXTS)
        ).all()
        for context_id, document, source, included_from, token_ids in rows:
            ids = unpack_token_ids(bytes(token_ids))
            yield ContextRecord(context_id, document, source, included_from, ids)
        if len(rows) < _CONTEXTS:
            return
        after = rows[-1].context_id


def block_of(neurons: Sequence[StoredNeuron]) -> NeuronBlock:
    """Consecutive neurons of one layer as a block."""
    scalars = {
        name: _column(name, [neuron.scalars[name] for neuron in neurons]) for name in SCALARS
    }
    counts = np.zeros((len(neurons), len(schema.KINDS)), np.int64)
    parts: list[ExampleArrays] = []
    for at, neuron in enumerate(neurons):
        for kind, examples in sorted(neuron.kinds.items()):
            counts[at, kind] = len(examples)
            parts.append(examples)
    return NeuronBlock(
        layer=neurons[0].layer,
        first=neurons[0].neuron,
        scalars=scalars,
        arrays={
            name: _padded([neuron.arrays[name] for neuron in neurons], dtype)
            for name, dtype in NEURON_ARRAYS.items()
        },
        counts=counts,
        examples=_windows(parts),
    )


def _number(value: Any) -> float:
    return np.nan if value is None else value


def _column(name: str, values: list[Any]) -> Array:
    kind = schema.neurons.c[name].type.python_type
    if kind is float or any(value != value for value in values):  # NaN: unknown
        return np.array(values, np.float64)
    return np.array(values, np.bool_ if kind is bool else np.int64)


def _padded(arrays: list[Array], dtype: str) -> Columns:
    lengths = np.array([len(array) for array in arrays], np.int64)
    values = np.zeros((len(arrays), int(lengths.max(initial=0))), dtype)
    for row, array in zip(values, arrays, strict=True):
        row[: len(array)] = array
    return Columns(values, lengths)


def _windows(parts: list[ExampleArrays]) -> Windows:
    columns: dict[str, Array] = {}
    for name, dtype in FIELDS.items():
        values = [getattr(part, name) for part in parts]
        columns[name] = np.concatenate(values) if values else np.empty(0, dtype)
    lengths = columns["lengths"].astype(np.int64)
    quantized = np.zeros((len(lengths), int(lengths.max(initial=0))), np.int8)
    inside = np.arange(quantized.shape[1]) < lengths[:, None]
    if parts:
        quantized[inside] = np.concatenate([part.quantized for part in parts])
    return Windows(**columns, quantized=quantized)
