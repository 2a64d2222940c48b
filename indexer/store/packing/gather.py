"""Named arrays of many neurons at once: `codec.unpack_arrays` for who reads a whole layer, in a
fraction of its time. Apart from the codec: it reads what `layout` wrote in a way of its own. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from indexer.store.packing import layout
from indexer.store.packing.codec import FORMAT, NEURON_ARRAYS, decompressed

Array = np.ndarray[Any, Any]


class Gathered(NamedTuple):
    """One array of each of many neurons."""

    values: Array
    """A row a neuron, 0 after its end."""
    lengths: Int64[np.ndarray, " n"]
    """How many numbers each neuron has: none where it is not known."""


def gather(packed: Sequence[bytes], wanted: Sequence[str]) -> dict[str, Gathered]:
    """The `wanted` arrays of neurons as `pack_arrays` packed them.

    Raises KeyError for a name there is not, ValueError where the bytes are not its work.
    """
    if any(row[:1] != bytes([FORMAT]) for row in packed):
        raise ValueError("A packed value has an unknown format.")
    raws = [decompressed(row[1:]) for row in packed]
    sizes = [len(raw) for raw in raws]
    if min(sizes, default=1) < 1:
        raise ValueError("A packed value is empty.")
    begins = np.cumsum([0, *sizes])[:-1].astype(np.int64)
    raw = np.frombuffer(b"".join(raws), np.uint8)
    held = int(raw[begins[0]]) if raws else 0
    if (raw[begins] != held).any() or held > len(NEURON_ARRAYS):
        raise ValueError("Packed values have not the same arrays, or some that are not known.")
    head = raw[begins[:, None] + 1 + np.arange(2 * held)].astype(np.int64)
    lengths = dict.fromkeys(NEURON_ARRAYS, np.zeros(len(raws), np.int64))
    lengths |= zip(NEURON_ARRAYS, (head[:, :held] + 256 * head[:, held:]).T, strict=False)
    start = begins + 1 + 2 * held
    taken = sum(int(dtype[-1]) * lengths[name] for name, dtype in NEURON_ARRAYS.items())
    if (start + taken != begins + sizes).any():
        raise ValueError("A packed value has another length than it says.")
    found: dict[str, Gathered] = {}
    for dtype, some in layout.types_of(NEURON_ARRAYS):
        counts = np.array([lengths[name] for name in some])
        before, of_type = np.cumsum(counts, axis=0) - counts, counts.sum(axis=0)
        for index, name in enumerate(some):
            if name in wanted:
                values = _planes(raw, dtype, start + before[index], of_type, counts[index])
                found[name] = Gathered(values, counts[index])
        start = start + int(dtype[-1]) * of_type
    return {name: found[name] for name in wanted}


def _planes(raw: Array, dtype: str, first: Array, apart: Array, lengths: Array) -> Array:
    """Numbers in byte planes: of each neuron where the first byte of its first number is, and how
    far one plane is from the next."""
    column = np.arange(int(lengths.max(initial=0)))
    inside = column < lengths[:, None]
    at = (first[:, None] + column)[inside]
    step = np.broadcast_to(apart[:, None], inside.shape)[inside]
    size = int(dtype[-1])
    spelled = np.zeros((*inside.shape, size), np.uint8)
    for byte in range(size):
        spelled[inside, byte] = raw[at + byte * step]
    values: Array = spelled.view(dtype)[..., 0]
    return values
