"""Running selections: for each row, the k best entries seen so far and their examples.

A row is a neuron, or a neuron's band or source. Entries are ordered by the pair (value descending,
id ascending). This is a total order, so the result does not depend on the order in which entries
come, and two selections merge into exactly the selection of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int64, UInt16

NO_ID = np.iinfo(np.int64).max
"""The id of an empty place: it comes after every entry, even one of value −inf."""
_NOTHING = np.iinfo(np.int64).max
"""A key that comes after all keys of pairs."""
_LOW = 0xFFFFFFFF
"""An id's bits in a key. All of them set means `NO_ID`, so ids must be smaller."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Entries:
    """Candidates or selected entries: entry i belongs to row `rows[i]`."""

    rows: Int64[np.ndarray, " m"]
    values: Float32[np.ndarray, " m"]
    ids: Int64[np.ndarray, " m"]
    payload: Payload


@dataclass(frozen=True)
class Payload:
    """The examples of entries, with their activations as 8-bit integers."""

    context_ids: Int64[np.ndarray, " m"]
    peaks: Float32[np.ndarray, " m"]
    peak_positions: UInt16[np.ndarray, " m"]
    troughs: Float32[np.ndarray, " m"]
    trough_positions: UInt16[np.ndarray, " m"]
    starts: UInt16[np.ndarray, " m"]
    lengths: UInt16[np.ndarray, " m"]
    scales: Float32[np.ndarray, " m"]
    gates: Float32[np.ndarray, " m"]
    """The gate at the example's centre (its peak or trough); NaN where there is none."""
    linears: Float32[np.ndarray, " m"]
    """The linear part at the same place; NaN where there is none."""
    quantized: Int8[np.ndarray, "m window"]

    @classmethod
    def empty(cls, count: int, window: int) -> Payload:
        """`count` empty places with room for `window` activations each, all 0: memory of places
        that stay empty is never touched."""
        return cls(
            context_ids=np.zeros(count, np.int64),
            peaks=np.zeros(count, np.float32),
            peak_positions=np.zeros(count, np.uint16),
            troughs=np.zeros(count, np.float32),
            trough_positions=np.zeros(count, np.uint16),
            starts=np.zeros(count, np.uint16),
            lengths=np.zeros(count, np.uint16),
            scales=np.zeros(count, np.float32),
            gates=np.zeros(count, np.float32),
            linears=np.zeros(count, np.float32),
            quantized=np.zeros((count, window), np.int8),
        )

    def named(self) -> dict[str, Array]:
        """All arrays by name, not copied: an example a row, `quantized` [examples, window]."""
        return dict(vars(self))

    def arrays(self) -> tuple[Array, ...]:
        """All arrays, not copied, in the order of the fields."""
        return tuple(vars(self).values())

    def at(self, places: slice | Int64[np.ndarray, " m"]) -> Payload:
        """The examples at `places`."""
        return Payload(*(values[places] for values in self.arrays()))

    def put(
        self, slots: Int64[np.ndarray, " m"], other: Payload, places: Int64[np.ndarray, " m"]
    ) -> None:
        """Copy another payload's examples at `places` into `slots`."""
        for mine, theirs in zip(self.arrays(), other.arrays(), strict=True):
            mine[slots] = theirs[places]


def _keys(values: Float32[Array, " *m"], ids: Int64[Array, " *m"]) -> Int64[Array, " *m"]:
    """Integers in the order of the pairs, best first: the upper 32 bits are the value's, as an
    integer that falls as the value rises, the lower 32 bits are the id."""
    bits = (values + np.float32(0)).view(np.int32)  # −0 is 0
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (~rising).astype(np.int64) << 32 | np.minimum(ids, _LOW)


def _values(keys: Int64[Array, " *m"]) -> Float32[Array, " *m"]:
    rising = ~(keys >> 32).astype(np.int32)
    return (rising ^ ((rising >> 31) & 0x7FFFFFFF)).view(np.float32)


def _ids(keys: Int64[Array, " *m"]) -> Int64[Array, " *m"]:
    ids = keys & _LOW
    return np.where(ids == _LOW, NO_ID, ids)


class Selection:
    """The k best entries of each of `rows` rows.

    `values`, `ids` and `slots` are sorted, best first; `slots` are the places of the entries'
    examples in `payload`. Examples are never moved: a new entry's example replaces that of the
    entry it displaces.
    """

    def __init__(self, rows: int, k: int, window: int) -> None:
        self.rows, self.k, self.window = rows, k, window
        self.values = np.full((rows, k), -np.inf, np.float32)
        self.ids = np.full((rows, k), NO_ID, np.int64)
        self.slots = np.arange(rows * k, dtype=np.int64).reshape(rows, k)
        self.payload = Payload.empty(rows * k, window)

    @staticmethod
    def bytes_for(rows: int, k: int, window: int) -> int:
        """Memory of a selection in bytes: 56 per entry, and the window."""
        return rows * k * (56 + window)

    def entering(
        self,
        rows: slice | Int64[np.ndarray, "batch n"],
        values: Float32[np.ndarray, "batch n"],
        ids: Int64[np.ndarray, " batch"],
    ) -> Bool[np.ndarray, "batch n"]:
        """Which values beat the k-th best of their row, compared as pairs (value, id).

        `rows` are the rows of the columns of `values`, as a slice, or one row for each value. NaN
        never enters.
        """
        if self.k == 0:
            return np.zeros(values.shape, np.bool_)
        kth = self.values[rows, -1]
        entering: np.ndarray[Any, np.dtype[np.bool_]] = values > kth
        tied = values == kth
        if tied.any():
            entering |= tied & (ids[:, None] < self.ids[rows, -1])
        return entering

    def admit(
        self,
        rows: Int64[np.ndarray, " m"],
        values: Float32[np.ndarray, " m"],
        ids: Int64[np.ndarray, " m"],
    ) -> tuple[Int64[np.ndarray, " a"], Int64[np.ndarray, " a"]]:
        """Enter the candidates that are among their row's k best; rows may come in any order.

        Returns the indices of these candidates and their slots. The caller must put their examples
        into `payload` at these slots before it is read.
        """
        if len(rows) == 0 or self.k == 0:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        begins = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
        counts = np.diff(np.append(begins, len(rows)))
        touched = rows[begins]
        lines = np.repeat(np.arange(len(touched)), counts)
        columns = self.k + np.arange(len(rows)) - np.repeat(begins, counts)
        # Each line has the k present entries, then the candidates.
        keys = np.full((len(touched), self.k + int(counts.max())), _NOTHING)
        keys[:, : self.k] = _keys(self.values[touched], self.ids[touched])
        keys[lines, columns] = _keys(values[order], ids[order])
        best = np.argsort(keys, axis=1)[:, : self.k]
        entered = best >= self.k
        stays = np.zeros(keys.shape, np.bool_)
        np.put_along_axis(stays, best, True, axis=1)
        slots = self.slots[touched]
        # As many entries leave a row as enter it, and both are in the order of rows.
        free = slots[~stays[:, : self.k]]
        slots = np.take_along_axis(slots, np.where(entered, 0, best), axis=1)
        slots[entered] = free
        best_keys = np.take_along_axis(keys, best, axis=1)
        self.values[touched], self.ids[touched] = _values(best_keys), _ids(best_keys)
        self.slots[touched] = slots
        return order[(begins[:, None] + best - self.k)[entered]], free

    def add(self, new: Entries) -> None:
        """Merge entries of any rows, in any order."""
        places, slots = self.admit(new.rows, new.values, new.ids)
        self.payload.put(slots, new.payload, places)

    def named(self) -> dict[str, Array]:
        """All arrays by name, not copied: the order, [rows, k], and the examples in their slots."""
        order: dict[str, Array] = {"values": self.values, "ids": self.ids, "slots": self.slots}
        return order | self.payload.named()

    def entries(self) -> Entries:
        """All entries, row by row, best first."""
        rows, places = np.nonzero(self.ids != NO_ID)
        payload = self.payload.at(self.slots[rows, places])
        return Entries(rows, self.values[rows, places], self.ids[rows, places], payload)
