"""Running selections: for each row, the k best entries seen so far, with what belongs to them.

A row is a neuron (or a neuron's band). Entries are ordered by the pair (value descending, id
ascending): a total order, so the result does not depend on the order in which entries come, and
two selections merge into exactly the selection of both. Pure but for numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int64, UInt16

NO_ID = np.iinfo(np.int64).max
"""The id of an empty place: it loses against every entry, even at value −inf."""


@dataclass(frozen=True)
class Entries:
    """Candidates or kept entries, flat: entry i belongs to row `rows[i]`."""

    rows: Int64[np.ndarray, " m"]
    values: Float32[np.ndarray, " m"]
    ids: Int64[np.ndarray, " m"]
    payload: Payload


@dataclass(frozen=True)
class Payload:
    """What is kept with an entry: the example, its activations as 8-bit integers."""

    context_ids: Int64[np.ndarray, " m"]
    peaks: Float32[np.ndarray, " m"]
    peak_positions: UInt16[np.ndarray, " m"]
    troughs: Float32[np.ndarray, " m"]
    trough_positions: UInt16[np.ndarray, " m"]
    starts: UInt16[np.ndarray, " m"]
    lengths: UInt16[np.ndarray, " m"]
    scales: Float32[np.ndarray, " m"]
    gates: Float32[np.ndarray, " m"]
    """The gate at the example's centre, its peak or trough; NaN where there is none."""
    linears: Float32[np.ndarray, " m"]
    """The linear part at the same place; NaN where there is none."""
    quantized: Int8[np.ndarray, "m window"]

    @classmethod
    def empty(cls, count: int, window: int) -> Payload:
        """`count` empty places with room for `window` activations each."""
        return cls(
            context_ids=np.zeros(count, np.int64),
            peaks=np.zeros(count, np.float32),
            peak_positions=np.zeros(count, np.uint16),
            troughs=np.zeros(count, np.float32),
            trough_positions=np.zeros(count, np.uint16),
            starts=np.zeros(count, np.uint16),
            lengths=np.zeros(count, np.uint16),
            scales=np.zeros(count, np.float32),
            gates=np.full(count, np.nan, np.float32),
            linears=np.full(count, np.nan, np.float32),
            quantized=np.zeros((count, window), np.int8),
        )

    def arrays(self) -> tuple[np.ndarray[Any, Any], ...]:
        """All arrays, in a fixed order."""
        return (
            self.context_ids,
            self.peaks,
            self.peak_positions,
            self.troughs,
            self.trough_positions,
            self.starts,
            self.lengths,
            self.scales,
            self.gates,
            self.linears,
            self.quantized,
        )


class Selection:
    """The k best entries of each of `rows` rows.

    `values`, `ids` and `slots` are sorted, best first; `slots` tells where in `payload` an entry's
    rest lies. The payload itself stays where it was put: a newcomer takes the place of the entry
    it drives out, so nothing but newcomers is ever copied.
    """

    def __init__(self, rows: int, k: int, window: int) -> None:
        self.rows, self.k, self.window = rows, k, window
        self.values = np.full((rows, k), -np.inf, np.float32)
        self.ids = np.full((rows, k), NO_ID, np.int64)
        self.slots = np.arange(rows * k, dtype=np.int64).reshape(rows, k)
        self.payload = Payload.empty(rows * k, window)

    @staticmethod
    def bytes_for(rows: int, k: int, window: int) -> int:
        """Memory the selection holds, in bytes: 56 an entry and its window."""
        return rows * k * (56 + window)

    def entering(
        self,
        rows: slice | Int64[np.ndarray, "batch n"],
        values: Float32[np.ndarray, "batch n"],
        ids: Int64[np.ndarray, " batch"],
    ) -> Bool[np.ndarray, "batch n"]:
        """Which entries beat the k-th best of their row: the pair decides, not the value alone.

        `rows` are those of the columns of `values`, the same for each line, or one for each value.
        NaN never enters.
        """
        if self.k == 0:
            return np.zeros(values.shape, np.bool_)
        kth = self.values[rows, -1]
        entering: np.ndarray[Any, np.dtype[np.bool_]] = values > kth
        tied = values == kth
        if tied.any():
            entering |= tied & (ids[:, None] < self.ids[rows, -1])
        return entering

    def add(self, new: Entries) -> None:
        """Merge entries in. They may belong to any rows, several to one, in any order."""
        if len(new.rows) == 0 or self.k == 0:
            return
        touched, local = np.unique(new.rows, return_inverse=True)
        rows = np.concatenate([np.repeat(np.arange(len(touched)), self.k), local])
        values = np.concatenate([self.values[touched].ravel(), new.values])
        ids = np.concatenate([self.ids[touched].ravel(), new.ids])
        slots = np.concatenate([self.slots[touched].ravel(), np.full(len(new.rows), -1)])
        order = np.lexsort((ids, -values, rows))
        # Sorted by row now: the first k of each touched row stay.
        begins = np.searchsorted(rows[order], np.arange(len(touched)))
        best = order[(begins[:, None] + np.arange(self.k)).ravel()]
        # A row drives out as many entries as it lets in, and both come in the order of rows.
        old = len(touched) * self.k
        entering = best[best >= old]
        stays = np.zeros(old, np.bool_)
        stays[best[best < old]] = True
        slots[entering] = slots[:old][~stays]
        self.values[touched] = values[best].reshape(-1, self.k)
        self.ids[touched] = ids[best].reshape(-1, self.k)
        self.slots[touched] = slots[best].reshape(-1, self.k)
        for mine, theirs in zip(self.payload.arrays(), new.payload.arrays(), strict=True):
            mine[slots[entering]] = theirs[entering - old]

    def counts(self) -> Int64[np.ndarray, " rows"]:
        """Entries each row really has."""
        counted: Int64[np.ndarray, " rows"] = (self.ids != NO_ID).sum(axis=1, dtype=np.int64)
        return counted
