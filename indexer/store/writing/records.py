"""What a run is made of on its way into the store: its facts, its neurons, its contexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from jaxtyping import Int64

from indexer.store.packing.codec import NEURON_ARRAYS, ExampleArrays, windows_of
from indexer.store.packing.layout import Columns, Windows

Array = np.ndarray[Any, Any]
Scalar = float | int | bool | None


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
    sample_identity: str
    """Of the contexts whose peaks are kept: `sample.sample_identity`."""
    widths: tuple[int, ...]
    sources: tuple[str, ...]
    vocabulary: list[bytes]
    provenance: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class NeuronBlock:
    """Neurons of one layer that follow one another: everything of all of them, array by array."""

    layer: int
    first: int
    """The first one's index in its layer."""
    scalars: dict[str, Array]
    """By column of `neurons`, one number a neuron. NaN: not known."""
    arrays: dict[str, Columns]
    """By the names of codec.NEURON_ARRAYS."""
    counts: Int64[np.ndarray, "neurons kinds"]
    """How many examples of each kind each neuron has, in the order of schema.KINDS."""
    examples: Windows
    """Of all neurons, neuron by neuron, kind by kind, best first."""

    def __len__(self) -> int:
        return len(self.counts)


@dataclass(frozen=True)
class NeuronRecord:
    """One neuron: its scalars by column, its small arrays by codec.NEURON_ARRAYS, its examples."""

    layer: int
    neuron: int
    scalars: dict[str, Scalar]
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


def block_of(records: Sequence[NeuronRecord]) -> NeuronBlock:
    """Neurons of one layer that follow one another, as a block."""
    return NeuronBlock(
        layer=records[0].layer,
        first=records[0].neuron,
        scalars={
            name: _column([record.scalars[name] for record in records])
            for name in records[0].scalars
        },
        arrays={
            name: _columns([record.arrays.get(name, np.empty(0)) for record in records], dtype)
            for name, dtype in NEURON_ARRAYS.items()
            if any(name in record.arrays for record in records)
        },
        counts=np.array([[len(some) for some in record.examples] for record in records], np.int64),
        examples=windows_of([some for record in records for some in record.examples]),
    )


def records_of(block: NeuronBlock) -> list[NeuronRecord]:
    """The neurons of a block, one by one."""
    return [_record(block, index) for index in range(len(block))]


def _record(block: NeuronBlock, index: int) -> NeuronRecord:
    arrays = {
        name: columns.values[index, : columns.lengths[index]]
        for name, columns in block.arrays.items()
    }
    ends = (
        block.counts[: index + 1].sum() - block.counts[index].sum() + block.counts[index].cumsum()
    )
    begins = ends - block.counts[index]
    return NeuronRecord(
        layer=block.layer,
        neuron=block.first + index,
        scalars={name: plain(column)[index] for name, column in block.scalars.items()},
        arrays=arrays,
        examples=tuple(
            _examples(block.examples, slice(begin, end))
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
        ),
    )


def plain(column: Array) -> list[Any]:
    """A column of scalars as Python's own numbers: None for NaN, and no −0, whose sign SQLite does
    not keep and PostgreSQL does."""
    values: list[Any]
    if column.dtype.kind != "f":
        values = column.tolist()
        return values
    values = (column + 0.0).tolist()
    return [None if value != value else value for value in values]


def _column(values: Sequence[Scalar]) -> Array:
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, (int, bool)) for value in known):
        return np.array(values)
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _columns(rows: Sequence[Array], dtype: str) -> Columns:
    counts = np.array([len(row) for row in rows], np.int64)
    values = np.zeros((len(rows), int(counts.max())), dtype)
    for mine, row in zip(values, rows, strict=True):
        mine[: len(row)] = row
    return Columns(values, counts)


def _examples(windows: Windows, where: slice) -> ExampleArrays:
    fields = {name: values[where] for name, values in vars(windows).items()}
    quantized = fields.pop("quantized")
    inside = np.arange(quantized.shape[1]) < fields["lengths"][:, None]
    return ExampleArrays(quantized=quantized[inside], **fields)
