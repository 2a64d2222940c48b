"""Unpacks named arrays of many neurons at once, faster than `codec.unpack_arrays` one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from indexer.store.packing import layout
from indexer.store.packing.codec import FORMAT, NEURON_ARRAYS, decompressed

Array = np.ndarray[Any, Any]


class Gathered(NamedTuple):
    """One named array of many neurons."""

    values: Array
    """[neurons, longest], padded with 0."""
    lengths: Int64[np.ndarray, " n"]
    """Numbers in each neuron's array; 0 if unknown."""


def gather(packed: Sequence[bytes], wanted: Sequence[str]) -> dict[str, Gathered]:
    """The `wanted` arrays, by name, of neurons packed by `pack_arrays`.

    Raises KeyError for an unknown name, ValueError for other bytes.
    """
    if any(row[:1] != bytes([FORMAT]) for row in packed):
        raise ValueError("A packed value has an unknown format.")
    raws = [decompressed(row[1:]) for row in packed]
    sizes = [len(raw) for raw in raws]
    if min(sizes, default=1) < 1:
        raise ValueError("A packed value is empty.")
    begins = np.cumsum([0, *sizes])[:-1].astype(np.int64)
    raw = np.frombuffer(b"".join(raws), np.uint8)
    stored = raw[begins].astype(np.int64)  # a unit may lack the last of the arrays
    if stored.max(initial=0) > len(NEURON_ARRAYS):
        raise ValueError("Packed values have unknown arrays.")
    table = np.zeros((len(NEURON_ARRAYS), len(raws)), np.int64)
    for count in np.unique(stored).tolist():
        rows = np.flatnonzero(stored == count)
        head = raw[begins[rows, None] + 1 + np.arange(2 * count)].astype(np.int64)
        table[:count, rows] = (head[:, :count] + 256 * head[:, count:]).T
    lengths = dict(zip(NEURON_ARRAYS, table, strict=True))
    start = begins + 1 + 2 * stored
    sizes_stated = sum(int(dtype[-1]) * lengths[name] for name, dtype in NEURON_ARRAYS.items())
    if (start + sizes_stated != begins + sizes).any():
        raise ValueError("A packed value does not have the stated length.")
    gathered: dict[str, Gathered] = {}
    for dtype, typed in layout.types_of(NEURON_ARRAYS):
        counts = np.array([lengths[name] for name in typed])
        before, of_type = np.cumsum(counts, axis=0) - counts, counts.sum(axis=0)
        for index, name in enumerate(typed):
            if name in wanted:
                values = _planes(raw, dtype, start + before[index], of_type, counts[index])
                gathered[name] = Gathered(values, counts[index])
        start = start + int(dtype[-1]) * of_type
    return {name: gathered[name] for name in wanted}


def _planes(raw: Array, dtype: str, first: Array, stride: Array, lengths: Array) -> Array:
    """Numbers [neurons, longest] from byte planes. `first` is the place of each neuron's first
    byte, `stride` the distance between its planes."""
    column = np.arange(int(lengths.max(initial=0)))
    inside = column < lengths[:, None]
    at = (first[:, None] + column)[inside]
    step = np.broadcast_to(stride[:, None], inside.shape)[inside]
    size = int(dtype[-1])
    content = np.zeros((*inside.shape, size), np.uint8)
    for byte in range(size):
        content[inside, byte] = raw[at + byte * step]
    values: Array = content.view(dtype)[..., 0]
    return values
