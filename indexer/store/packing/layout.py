"""Arrays of many neurons → each neuron's canonical bytes, which are hashed and compressed.

Blocks of neurons are laid out at once in numpy. All numbers are little-endian. Numbers of one type
are stored as byte planes: the first byte of each number, then the second byte of each, and so on.
High bytes are often alike and form runs, which compress well, separate from random low bytes.

A neuron's lists of examples of several kinds:

    u1  number of lists                                                 ┐
    u2  examples in each list (planes)                                  │ the head
    u2  number of distinct examples                                     │
    u2  for each example: 0 if it is the next distinct example, else    │
        how many distinct examples back it is (planes)                  │
    for the distinct examples: each of `FIELDS` (planes)                ┘
    i1  activations of the distinct examples, concatenated

A neuron's small arrays:

    u1  number of names
    u2  length of each array (planes)
    for each type in `_TYPES`: the numbers of all arrays of that type, in order of names (planes)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
    "scales": "<f4",  # bits XOR those of `expected_scales`: nearly always 0
    "gates": "<f4",
    "linears": "<f4",
}
"""The fields of an example besides its activations, with their stored types."""
MOST = (1 << 16) - 1
"""Most examples, or numbers in an array, of a neuron."""
_TYPES = ("<f8", "<f4", "<i8", "<i4", "u1", "<f2")


@dataclass(frozen=True)
class Windows:
    """Examples as a struct of arrays, with activations in rows of equal width, padded with 0."""

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
    """One small array of each neuron in a block: the first `counts[n]` numbers of row n."""

    values: Array
    """[neurons, m]."""
    counts: Int64[np.ndarray, " neurons"] | None = None
    """None: all numbers of each row."""

    @property
    def lengths(self) -> Int64[np.ndarray, " neurons"]:
        """Numbers in each neuron's array."""
        rows, width = self.values.shape
        return np.full(rows, width, np.int64) if self.counts is None else self.counts


def lists_bytes(
    counts: Int64[np.ndarray, "neurons lists"], examples: Windows
) -> tuple[list[bytes], list[bytes]]:
    """The head and the activations of each neuron's lists.

    Args:
        counts: examples in each list of each neuron.
        examples: all examples, neuron by neuron, list by list.

    An example that equals an earlier one of its neuron in every field is stored once. Raises
    ValueError if a neuron has more than `MOST` examples.
    """
    neurons, lists = counts.shape
    totals = counts.sum(axis=1)
    if (totals > MOST).any():
        raise ValueError(f"A neuron has {totals.max():,} examples; at most {MOST:,} can be stored.")
    owner = np.repeat(np.arange(neurons), totals)
    same_as = first_alike(owner, examples)
    new = same_as == np.arange(len(owner))
    distinct_counts = np.bincount(owner[new], minlength=neurons)
    # Places count over the whole block; only differences within one neuron are stored.
    seen = np.cumsum(new)
    place = seen - 1
    back = np.where(new, 0, seen - place[same_as])
    fixed = np.empty((neurons, 2 * lists + 3), np.uint8)
    fixed[:, 0] = lists
    fixed[:, 1 : 1 + lists] = counts & 255
    fixed[:, 1 + lists : 1 + 2 * lists] = counts >> 8
    fixed[:, 1 + 2 * lists :] = distinct_counts.astype("<u2").view(np.uint8).reshape(-1, 2)
    distinct = np.flatnonzero(new)
    parts = [_Part(back.astype("<u2"), totals)]
    for name, dtype in FIELDS.items():
        values = getattr(examples, name)[distinct]
        if name == "scales":
            expected = expected_scales(examples.peaks[distinct], examples.troughs[distinct])
            values = values.astype(dtype).view("<u4") ^ expected.view("<u4")
            dtype = "<u4"
        parts.append(_Part(values.astype(dtype, copy=False), distinct_counts))
    return _joined(fixed, parts), _activations(examples, new, neurons, owner)


def expected_scales(
    peaks: Float32[np.ndarray, " m"], troughs: Float32[np.ndarray, " m"]
) -> Float32[np.ndarray, " m"]:
    """The scale of an example whose window contains both its peak and its trough."""
    largest = np.maximum(np.abs(peaks), np.abs(troughs))
    scales: Float32[np.ndarray, " m"] = (largest / np.float32(127)).astype("<f4")
    return scales


def arrays_bytes(
    neurons: int, arrays: Mapping[str, Columns], names: Mapping[str, str], later: int = 0
) -> list[bytes]:
    """The bytes of each neuron's small arrays; `names` gives their order and types. The last
    `later` of these are left out where no neuron has any of them.

    Raises KeyError for an unknown name, ValueError for more than `MOST` numbers.
    """
    unknown = arrays.keys() - names.keys()
    if unknown:
        raise KeyError(f"unknown arrays: {', '.join(sorted(unknown))}")
    last = list(names)[len(names) - later :]
    if not any(arrays[name].lengths.any() for name in last if name in arrays):
        names = {name: dtype for name, dtype in names.items() if name not in last}
        arrays = {name: columns for name, columns in arrays.items() if name in names}
    lengths = np.zeros((neurons, len(names)), np.int64)
    for index, name in enumerate(names):
        if name in arrays:
            lengths[:, index] = arrays[name].lengths
    if lengths.max(initial=0) > MOST:
        raise ValueError(f"An array has {lengths.max():,} numbers; at most {MOST:,} can be stored.")
    fixed = np.empty((neurons, 1 + 2 * len(names)), np.uint8)
    fixed[:, 0] = len(names)
    fixed[:, 1 : 1 + len(names)] = lengths & 255
    fixed[:, 1 + len(names) :] = lengths >> 8
    parts = []
    for dtype in _TYPES:
        typed = [index for index, type_ in enumerate(names.values()) if type_ == dtype]
        parts.append(_gathered(arrays, list(names), typed, lengths, dtype))
    return _joined(fixed, parts)


def types_of(names: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """The types in the order of `arrays_bytes`, each with the names of its arrays."""
    return _by_type(tuple(names.items()))


@lru_cache(maxsize=16)
def _by_type(names: tuple[tuple[str, str], ...]) -> list[tuple[str, list[str]]]:
    return [(dtype, [name for name, type_ in names if type_ == dtype]) for dtype in _TYPES]


def first_alike(owner: Int64[np.ndarray, " m"], examples: Windows) -> Int64[np.ndarray, " m"]:
    """For each example, the index of the first equal example of its neuron."""
    same_as = np.arange(len(owner))
    if not len(owner):
        return same_as
    ids = examples.context_ids - examples.context_ids.min()
    if (int(ids.max()) + 1) * (int(owner[-1]) + 1) >= 1 << 63:  # too large for one combined key
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
    """The concatenated ranges of `counts[n]` numbers from `begins[n]` on."""
    before = np.cumsum(counts) - counts
    places: Int64[np.ndarray, " m"] = np.repeat(begins - before, counts) + np.arange(counts.sum())
    return places


@dataclass(frozen=True)
class _Part:
    """Numbers of all neurons, concatenated, `counts[n]` of neuron n."""

    values: Array
    counts: Int64[np.ndarray, " neurons"]


def _joined(fixed: UInt8[np.ndarray, "neurons bytes"], parts: Sequence[_Part]) -> list[bytes]:
    """Each neuron's bytes: its row of `fixed`, then its numbers of each part as planes."""
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
            # The place of each number's first byte; planes are `counts` apart.
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
    typed: Sequence[int],
    lengths: Int64[np.ndarray, "neurons names"],
    dtype: str,
) -> _Part:
    """The numbers of all arrays of one type, neuron by neuron; `typed` are the arrays' indices."""
    counts = lengths[:, typed].sum(axis=1)
    values = np.empty(int(counts.sum()), dtype)
    at = np.cumsum(counts) - counts
    for index in typed:
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
    rows: Int8[np.ndarray, "n window"], first: Array, second: Array
) -> Bool[np.ndarray, " m"]:
    equal: Bool[np.ndarray, " m"] = (rows[first] == rows[second]).all(axis=1)
    return equal


def _activations(
    examples: Windows, new: Bool[np.ndarray, " m"], neurons: int, owner: Int64[np.ndarray, " m"]
) -> list[bytes]:
    """Each neuron's activations, only of new examples and without padding."""
    lengths = np.where(new, examples.lengths, 0).astype(np.uint16)
    inside = np.arange(examples.quantized.shape[1], dtype=np.uint16) < lengths[:, None]
    data = examples.quantized[inside].tobytes()
    sizes = np.bincount(owner, weights=lengths, minlength=neurons).astype(np.int64)
    return [data[a:b] for a, b in pairwise([0, *np.cumsum(sizes).tolist()])]
