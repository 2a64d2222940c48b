"""Arrays of many neurons → each neuron's canonical bytes: what is hashed, and what is compressed.

Everything is laid out for a block of neurons at once, in numpy; one neuron is a block of one. All
numbers are little-endian. Numbers of one type stand together as byte planes: the first byte of each
of them, then the second of each, and so on. Where they are alike (high bytes, lengths) runs
arise, which compress to nothing; random bits are not spread over them. Pure.

A neuron's lists of examples, of several kinds, have this form:

    u1  how many lists                                                  ┐
    u2  of each list: how many examples (planes)                        │ the head
    u2  how many distinct examples                                      │
    u2  of each example: 0, it is the next of the distinct ones;        │
        else how many of those met so far it lies back (planes)         │
    of the distinct examples: each of `FIELDS` (planes)                 ┘
    i1  of the distinct examples: the activations, one after the other

A neuron's small arrays:

    u1  how many names there are
    u2  of each name: how many numbers (planes)
    of each type in `_TYPES`: the numbers of the arrays of that type, in the order of names (planes)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int64, UInt8, UInt16

Array = np.ndarray[Any, Any]

FIELDS: dict[str, str] = {
    "peaks": "<f4",
    "peak_positions": "<u2",
    "troughs": "<f4",
    "trough_positions": "<u2",
    "context_ids": "<i8",
    "starts": "<u2",
    "lengths": "<u2",
    "scales": "<f4",  # its bits, those of `expected_scales` taken away by XOR: nearly always 0
    "gates": "<f4",
    "linears": "<f4",
}
"""What an example has besides its activations, and how it is stored."""
MOST = (1 << 16) - 1
"""Examples, or numbers of an array, that a neuron can have."""
_TYPES = ("<f8", "<f4", "<i8", "<i4", "u1", "<f2")


@dataclass(frozen=True)
class Windows:
    """Examples as a struct of arrays, activations in rows of one width, 0 after their end."""

    peaks: Float32[np.ndarray, " m"]
    peak_positions: UInt16[np.ndarray, " m"]
    troughs: Float32[np.ndarray, " m"]
    trough_positions: UInt16[np.ndarray, " m"]
    context_ids: Int64[np.ndarray, " m"]
    starts: UInt16[np.ndarray, " m"]
    lengths: UInt16[np.ndarray, " m"]
    scales: Float32[np.ndarray, " m"]
    gates: Float32[np.ndarray, " m"]
    linears: Float32[np.ndarray, " m"]
    quantized: Int8[np.ndarray, "m window"]


@dataclass(frozen=True)
class Columns:
    """One small array of each neuron of a block: `counts[n]` numbers at the beginning of row n."""

    values: Array
    """[neurons, m]."""
    counts: Int64[np.ndarray, " neurons"] | None = None
    """None: all of them."""

    @property
    def lengths(self) -> Int64[np.ndarray, " neurons"]:
        """How many numbers each neuron has."""
        rows, width = self.values.shape
        return np.full(rows, width, np.int64) if self.counts is None else self.counts


def lists_bytes(
    counts: Int64[np.ndarray, "neurons lists"], examples: Windows
) -> tuple[list[bytes], list[bytes]]:
    """The lists of each neuron: the head and the activations, apart.

    Args:
        counts: how many examples each list of each neuron has.
        examples: of all neurons, neuron by neuron, list by list.

    An example that is the same as one before it in its neuron, in every field, is stored once.
    Raises ValueError where a neuron has more than `MOST` examples.
    """
    neurons, lists = counts.shape
    totals = counts.sum(axis=1)
    if (totals > MOST).any():
        raise ValueError(f"A neuron has {totals.max():,} examples: {MOST:,} can be stored.")
    owner = np.repeat(np.arange(neurons), totals)
    same_as = first_alike(owner, examples)
    new = same_as == np.arange(len(owner))
    kept = np.bincount(owner[new], minlength=neurons)
    # Counted over the whole block: the difference of two places in one neuron is what is stored.
    met = np.cumsum(new)
    place = met - 1
    back = np.where(new, 0, met - place[same_as])
    fixed = np.empty((neurons, 2 * lists + 3), np.uint8)
    fixed[:, 0] = lists
    fixed[:, 1 : 1 + lists] = counts & 255
    fixed[:, 1 + lists : 1 + 2 * lists] = counts >> 8
    fixed[:, 1 + 2 * lists :] = kept.astype("<u2").view(np.uint8).reshape(-1, 2)
    distinct = np.flatnonzero(new)
    parts = [_Part(back.astype("<u2"), totals)]
    for name, dtype in FIELDS.items():
        values = getattr(examples, name)[distinct]
        if name == "scales":
            expected = expected_scales(examples.peaks[distinct], examples.troughs[distinct])
            values = values.astype(dtype).view("<u4") ^ expected.view("<u4")
            dtype = "<u4"
        parts.append(_Part(values.astype(dtype, copy=False), kept))
    return _joined(fixed, parts), _activations(examples, new, neurons, owner)


def expected_scales(
    peaks: Float32[np.ndarray, " m"], troughs: Float32[np.ndarray, " m"]
) -> Float32[np.ndarray, " m"]:
    """The scale of an example whose window has both its peak and its trough."""
    largest = np.maximum(np.abs(peaks), np.abs(troughs))
    scales: Float32[np.ndarray, " m"] = (largest / np.float32(127)).astype("<f4")
    return scales


def arrays_bytes(
    neurons: int, arrays: Mapping[str, Columns], names: Mapping[str, str]
) -> list[bytes]:
    """The small arrays of each neuron; `names` gives their order and types.

    Raises KeyError for an array whose name is not among them, ValueError for one too long.
    """
    unknown = arrays.keys() - names.keys()
    if unknown:
        raise KeyError(f"no such arrays: {', '.join(sorted(unknown))}")
    lengths = np.zeros((neurons, len(names)), np.int64)
    for index, name in enumerate(names):
        if name in arrays:
            lengths[:, index] = arrays[name].lengths
    if lengths.max(initial=0) > MOST:
        raise ValueError(f"An array has {lengths.max():,} numbers: {MOST:,} can be stored.")
    fixed = np.empty((neurons, 1 + 2 * len(names)), np.uint8)
    fixed[:, 0] = len(names)
    fixed[:, 1 : 1 + len(names)] = lengths & 255
    fixed[:, 1 + len(names) :] = lengths >> 8
    parts = []
    for dtype in _TYPES:
        some = [index for index, one in enumerate(names.values()) if one == dtype]
        parts.append(_gathered(arrays, list(names), some, lengths, dtype))
    return _joined(fixed, parts)


def types_of(names: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """The types in the order of their numbers in `arrays_bytes`, each with its arrays' names."""
    return [(dtype, [name for name, one in names.items() if one == dtype]) for dtype in _TYPES]


def first_alike(owner: Int64[np.ndarray, " m"], examples: Windows) -> Int64[np.ndarray, " m"]:
    """Of each example, the first of its neuron that is the same: itself or one before it."""
    same_as = np.arange(len(owner))
    if not len(owner):
        return same_as
    ids = examples.context_ids - examples.context_ids.min()
    if (int(ids.max()) + 1) * (int(owner[-1]) + 1) >= 1 << 63:  # too large to be one key with both
        _, ids = np.unique(ids, return_inverse=True)
    keys = owner * (int(ids.max()) + 1) + ids
    order = np.argsort(keys)
    begins = np.ones(len(order), np.bool_)
    begins[1:] = np.diff(keys[order]) != 0
    starts = np.flatnonzero(begins)
    # The sort is not stable: the first of a run is its smallest index.
    first = np.repeat(np.minimum.reduceat(order, starts), np.diff(starts, append=len(order)))
    begins = order == first
    repeated, of = order[~begins], first[~begins]
    alike = np.ones(len(repeated), np.bool_)
    for name, dtype in FIELDS.items():
        values = getattr(examples, name).astype(dtype, copy=False)
        bits = values.view(f"<u{values.itemsize}")
        alike &= bits[repeated] == bits[of]
    alike &= _rows_equal(examples.quantized, repeated, of)
    same_as[repeated[alike]] = of[alike]
    return same_as


def ranges(
    begins: Int64[np.ndarray, " n"], counts: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " m"]:
    """`counts[n]` numbers from `begins[n]` on, for each n, one after the other."""
    before = np.cumsum(counts) - counts
    places: Int64[np.ndarray, " m"] = np.repeat(begins - before, counts) + np.arange(counts.sum())
    return places


@dataclass(frozen=True)
class _Part:
    """Numbers of all neurons, `counts[n]` of neuron n, one neuron after the other."""

    values: Array
    counts: Int64[np.ndarray, " neurons"]


def _joined(fixed: UInt8[np.ndarray, "neurons bytes"], parts: Sequence[_Part]) -> list[bytes]:
    """Each neuron's bytes: its row of `fixed`, then its numbers of each part in planes."""
    width = fixed.shape[1]
    sizes = width + sum(part.values.itemsize * part.counts for part in parts)
    ends = np.cumsum(sizes)
    begins = ends - sizes
    out = np.empty(int(sizes.sum()), np.uint8)
    out[begins[:, None] + np.arange(width)] = fixed
    at = begins + width
    for part in parts:
        size = part.values.itemsize
        if len(part.values):
            # Where each number's first byte goes; the next plane is `counts` further on.
            before = np.cumsum(part.counts) - part.counts
            to = np.repeat(at - before, part.counts) + np.arange(len(part.values))
            step = np.repeat(part.counts, part.counts)
            planes = part.values.view(np.uint8).reshape(-1, size)
            for plane in range(size):
                out[to] = planes[:, plane]
                to += step
        at = at + size * part.counts
    data = out.tobytes()
    return [data[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]


def _gathered(
    arrays: Mapping[str, Columns],
    names: Sequence[str],
    some: Sequence[int],
    lengths: Int64[np.ndarray, "neurons names"],
    dtype: str,
) -> _Part:
    """The numbers of the arrays of one type, neuron by neuron."""
    counts = lengths[:, some].sum(axis=1)
    values = np.empty(int(counts.sum()), dtype)
    at = np.cumsum(counts) - counts
    for index in some:
        columns = arrays.get(names[index])
        if columns is None:
            continue
        places = at[:, None] + np.arange(columns.values.shape[1])
        if columns.counts is None:
            values[places] = columns.values
        else:
            real = np.arange(columns.values.shape[1]) < columns.counts[:, None]
            values[places[real]] = columns.values[real]
        at = at + lengths[:, index]
    return _Part(values, counts)


def _rows_equal(
    rows: Int8[np.ndarray, "n window"], some: Array, others: Array
) -> Bool[np.ndarray, " m"]:
    equal: Bool[np.ndarray, " m"] = (rows[some] == rows[others]).all(axis=1)
    return equal


def _activations(
    examples: Windows, new: Bool[np.ndarray, " m"], neurons: int, owner: Int64[np.ndarray, " m"]
) -> list[bytes]:
    """Each neuron's activations, of new examples alone and without what lies after their ends."""
    lengths = np.where(new, examples.lengths, 0).astype(np.uint16)
    inside = np.arange(examples.quantized.shape[1], dtype=np.uint16) < lengths[:, None]
    data = examples.quantized[inside].tobytes()
    sizes = np.bincount(owner, weights=lengths, minlength=neurons).astype(np.int64)
    return [data[a:b] for a, b in pairwise([0, *np.cumsum(sizes).tolist()])]
