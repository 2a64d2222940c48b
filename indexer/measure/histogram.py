"""An exact histogram of every neuron's activations, accumulated in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, Integer

from indexer.measure.kernels import BINS

SHOWN_BINS = 64
"""Bins of the histogram that is stored, at most."""
_SMALLEST_EXPONENT = -110

Array = np.ndarray[Any, Any]


class Histogram:
    """An exact histogram of each neuron, whose range need not be known beforehand.

    Values ≥ 0 and values < 0 have half the bins each. Each side has its own bin width 2^e with
    edges at multiples of it, so 0 is always an edge and a large range on one side costs the other
    no precision. When a side outgrows its bins, its e grows and neighbouring bins are joined: every
    count stays exact, and the final bins depend only on the values counted. Bin `half + i` covers
    [i·2^e, (i + 1)·2^e), with i from −half on and the e of its side.
    """

    def __init__(self, neurons: int, bins: int = BINS) -> None:
        self.half = bins // 2
        self.counts: Int32[np.ndarray, "neurons bins"] = np.zeros((neurons, bins), np.int32)
        self.below = np.full(neurons, _SMALLEST_EXPONENT, np.int64)  # e of the negative side
        self.above = np.full(neurons, _SMALLEST_EXPONENT, np.int64)
        self.high = np.full(neurons, -np.inf)

    def arrays(self) -> dict[str, Array]:
        """All arrays by name, not copied: `counts` [neurons, bins], the others [neurons]."""
        return {name: value for name, value in vars(self).items() if name != "half"}

    def prepare(
        self, where: slice, low: Float32[np.ndarray, " n"], high: Float32[np.ndarray, " n"]
    ) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """Bins per unit of activation, above 0 and below, for values with these extremes.

        A neuron's bins are widened first if the values would not fit.
        """
        self._widen(where, low.astype(np.float64), high.astype(np.float64))
        above, below = (np.ldexp(1.0, -sides[where]) for sides in (self.above, self.below))
        return above.astype(np.float32), below.astype(np.float32)

    def add(self, where: slice, counts: Integer[np.ndarray, "n bins"]) -> None:
        """Add counts of the bins that `prepare` gave."""
        self.counts[where] += counts.astype(np.int32)

    def merge(self, other: Histogram) -> None:
        """Add another histogram of the same neurons: as if all values had been counted here."""
        above = np.maximum(self.above, other.above)
        below = np.maximum(self.below, other.below)
        rows = np.flatnonzero((above > self.above) | (below > self.below))
        self.counts[rows] = self._joined(
            self.counts[rows], above[rows] - self.above[rows], below[rows] - self.below[rows]
        )
        rows = np.flatnonzero(other.counts.any(axis=1))
        self.counts[rows] += self._joined(
            other.counts[rows], above[rows] - other.above[rows], below[rows] - other.below[rows]
        )
        self.above, self.below = above, below
        self.high = np.maximum(self.high, other.high)

    def _widen(
        self, where: slice, low: Float64[np.ndarray, " n"], high: Float64[np.ndarray, " n"]
    ) -> None:
        self.high[where] = np.maximum(self.high[where], high)
        above = _exponent_over(np.maximum(high, 0), self.half)
        below = _exponent_over(np.maximum(-low, 0), self.half)
        changed = np.flatnonzero((above > self.above[where]) | (below > self.below[where]))
        if len(changed):
            rows = changed + where.start
            above = np.maximum(above[changed], self.above[rows])
            below = np.maximum(below[changed], self.below[rows])
            self.counts[rows] = self._joined(
                self.counts[rows], above - self.above[rows], below - self.below[rows]
            )
            self.above[rows], self.below[rows] = above, below

    def _joined(
        self,
        counts: Int32[np.ndarray, "m bins"],
        above: Int64[np.ndarray, " m"],
        below: Int64[np.ndarray, " m"],
    ) -> Int32[np.ndarray, "m bins"]:
        """Counts moved to bins that are 2^above and 2^below times as wide."""
        rows, bins = np.nonzero(counts)
        index = bins - self.half
        growth = np.where(index >= 0, above[rows], below[rows])
        moved = np.zeros_like(counts)
        np.add.at(moved, (rows, (index >> growth) + self.half), counts[rows, bins])
        return moved

    def tenth_of(
        self, where: slice, maximum: Float64[np.ndarray, " n"]
    ) -> tuple[Float64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """10% of each neuron's maximum rounded up to an edge, and the number of positions at or
        above it.

        The edge is higher by at most 1/64 of the sample's own maximum. A neuron whose maximum is
        not above 0 gets 0 and 0.
        """
        # If no value in the sample reaches a tenth of the maximum, there is no edge near it.
        beyond = maximum / 10 > self.high[where]
        above = self.above[where]
        edge = np.ceil(np.ldexp(np.where(beyond, 0.0, maximum) / 10, -above))
        over = np.arange(2 * self.half) >= np.clip(edge, 0, self.half)[:, None] + self.half
        counted = (self.counts[where] * over).sum(axis=1, dtype=np.int64)
        tenth = np.where(beyond, maximum / 10, np.ldexp(edge, above))
        alive = maximum > 0
        return np.where(alive, tenth, 0.0), np.where(alive & ~beyond, counted, 0)

    def shown(
        self, where: slice, bins: int = SHOWN_BINS
    ) -> tuple[Float64[np.ndarray, "n 2"], Int32[np.ndarray, "n bins"], Int64[np.ndarray, " n"]]:
        """Counts joined into at most `bins` equal bins over each neuron's range.

        Returns the lowest edge and the width of a bin, the counts, and each neuron's number of
        bins; the counts after them are 0. A neuron without counts has one bin, from 0 to 0.
        """
        counts = self.counts[where]
        above, below = self.above[where], self.below[where]
        filled = counts != 0
        none = ~filled.any(axis=1)
        # The first and last filled bin; index −1 is the first bin below 0.
        first = filled.argmax(axis=1) - self.half
        last = self.half - 1 - filled[:, ::-1].argmax(axis=1)
        exponent = np.where(last >= 0, above, below)
        exponent = np.where(first < 0, np.maximum(exponent, below), exponent)
        first >>= exponent - np.where(first >= 0, above, below)
        last >>= exponent - np.where(last >= 0, above, below)
        while (wide := last - first >= bins).any():
            first, last, exponent = first >> wide, last >> wide, exponent + wide
        rows, index = np.nonzero(filled)
        sides = np.where(index >= self.half, above[rows], below[rows])
        joined = ((index - self.half) >> (exponent[rows] - sides)) - first[rows]
        shown = np.bincount(
            rows * bins + joined, weights=counts[rows, index], minlength=len(counts) * bins
        )
        edges = np.ldexp(np.stack([first, first + 1], axis=1).astype(np.float64), exponent[:, None])
        edges[none] = 0.0
        ranges = np.stack([edges[:, 0], edges[:, 1] - edges[:, 0]], axis=1)
        lengths = np.where(none, 1, last - first + 1)
        return ranges, shown.reshape(-1, bins).astype(np.int32), lengths


def _exponent_over(largest: Float64[np.ndarray, " n"], bins: int) -> Int64[np.ndarray, " n"]:
    """The e for which `bins` bins of width 2^e hold `largest`, but half as many would not."""
    _, magnitude = np.frexp(largest)  # largest < 2^magnitude
    exponent = magnitude.astype(np.int64) - int(np.log2(bins))
    fitting: Int64[np.ndarray, " n"] = np.where(largest > 0, exponent, _SMALLEST_EXPONENT)
    floored: Int64[np.ndarray, " n"] = np.maximum(fitting, _SMALLEST_EXPONENT)
    return floored
