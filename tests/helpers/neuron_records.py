"""Neurons one by one, as tests write and read them; the store's writer takes them in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from indexer.store.packing.codec import NEURON_ARRAYS, ExampleArrays
from indexer.store.packing.layout import Columns, Windows
from indexer.store.writing.records import NeuronBlock, plain
from tests.helpers.packed_lists import windows_of

Array = np.ndarray[Any, Any]
Scalar = float | int | bool | None


@dataclass(frozen=True)
class NeuronRecord:
    """One neuron: its scalars by column, its small arrays by codec.NEURON_ARRAYS, its examples."""

    layer: int
    neuron: int
    scalars: dict[str, Scalar]
    arrays: dict[str, Array]
    examples: tuple[ExampleArrays, ...]  # in the order of schema.KINDS


def block_of(records: Sequence[NeuronRecord]) -> NeuronBlock:
    """The block of consecutive neurons of one layer."""
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
        counts=np.array([[len(kind) for kind in record.examples] for record in records], np.int64),
        examples=windows_of([kind for record in records for kind in record.examples]),
    )


def records_of(block: NeuronBlock) -> list[NeuronRecord]:
    """The neurons of a block, one by one."""
    return [_record(block, index) for index in range(len(block))]


def _record(block: NeuronBlock, index: int) -> NeuronRecord:
    counts = block.counts[index]
    ends = block.counts[:index].sum() + counts.cumsum()
    return NeuronRecord(
        layer=block.layer,
        neuron=block.first + index,
        scalars={name: plain(column)[index] for name, column in block.scalars.items()},
        arrays={
            name: columns.values[index, : columns.lengths[index]]
            for name, columns in block.arrays.items()
        },
        examples=tuple(
            _examples(block.examples, slice(begin, end))
            for begin, end in zip((ends - counts).tolist(), ends.tolist(), strict=True)
        ),
    )


def _column(values: Sequence[Scalar]) -> Array:
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, (int, bool)) for value in known):
        return np.array(values)
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _columns(rows: Sequence[Array], dtype: str) -> Columns:
    counts = np.array([len(row) for row in rows], np.int64)
    values = np.zeros((len(rows), int(counts.max())), dtype)
    for padded, row in zip(values, rows, strict=True):
        padded[: len(row)] = row
    return Columns(values, counts)


def _examples(windows: Windows, where: slice) -> ExampleArrays:
    fields = {name: values[where] for name, values in vars(windows).items()}
    quantized = fields.pop("quantized")
    inside = np.arange(quantized.shape[1]) < fields["lengths"][:, None]
    return ExampleArrays(quantized=quantized[inside], **fields)
