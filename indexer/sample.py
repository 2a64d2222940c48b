"""What is measured on the sampled contexts: moments, densities, histograms, peaks and bands. Pure.

Every quantity is accumulated in one pass, and two accumulations of different contexts could be
merged: nothing depends on the order of batches but for the last bits of the moments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64
from torch import Tensor

FINE_BINS = 256
"""Bins of the histogram while it is accumulated."""
SHOWN_BINS = 64
"""Bins of the histogram that is kept, at most."""
PEAK_BINS = 40
"""Bins of the histogram of peaks, unless all peaks are one value."""
PEAK_QUANTILES = (0.01, 0.10, 0.25, 0.50, 0.75, 0.90, 0.99)
BAND_QUANTILES = (0.5, 0.9, 0.99)
"""Where the bands of peaks are cut."""
BANDS = len(BAND_QUANTILES) + 1
_SMALLEST_EXPONENT = -60
_PIECE = 64


class Moments:
    """Count, mean and central sums of powers 2–4 of each neuron's activations, in float64.

    Batches are merged by the pairwise formulas of P. Pébay, "Formulas for robust, one-pass
    parallel computation of covariances and arbitrary-order statistical moments" (Sandia, 2008).
    """

    def __init__(self, neurons: int) -> None:
        self.count = np.zeros(neurons, np.int64)
        self.mean = np.zeros(neurons)
        self.m2 = np.zeros(neurons)
        self.m3 = np.zeros(neurons)
        self.m4 = np.zeros(neurons)
        self.positive = np.zeros(neurons, np.int64)

    def add(self, first: int, activations: Float[Tensor, "positions n"]) -> None:
        """Add the included positions of a batch for n neurons from `first` on."""
        count = activations.shape[0]
        if count == 0:
            return
        for start, piece in _pieces(activations):
            where = slice(first + start, first + start + piece.shape[1])
            self.positive[where] += (piece > 0).sum(dim=0).cpu().numpy()
            centred = piece.double()
            mean = centred.mean(dim=0)
            centred -= mean
            powers = centred * centred
            m2 = powers.sum(dim=0)
            m3 = centred.mul_(powers).sum(dim=0)
            m4 = powers.square_().sum(dim=0)
            self._merge(where, count, *(part.cpu().numpy() for part in (mean, m2, m3, m4)))

    def _merge(
        self,
        where: slice,
        nb: int,
        mean: Float64[np.ndarray, " n"],
        m2: Float64[np.ndarray, " n"],
        m3: Float64[np.ndarray, " n"],
        m4: Float64[np.ndarray, " n"],
    ) -> None:
        na = self.count[where].astype(np.float64)
        a2, a3, a4 = self.m2[where], self.m3[where], self.m4[where]
        n = na + nb
        delta = mean - self.mean[where]
        step = delta / n
        self.m4[where] = (
            a4
            + m4
            + delta * step**3 * na * nb * (na * na - na * nb + nb * nb)
            + 6 * step**2 * (na * na * m2 + nb * nb * a2)
            + 4 * step * (na * m3 - nb * a3)
        )
        self.m3[where] = (
            a3 + m3 + delta * step**2 * na * nb * (na - nb) + 3 * step * (na * m2 - nb * a2)
        )
        self.m2[where] = a2 + m2 + delta * step * na * nb
        self.mean[where] += step * nb
        self.count[where] += nb

    def std(self) -> Float64[np.ndarray, " neurons"]:
        """Population standard deviation (divided by n)."""
        deviation: np.ndarray[Any, np.dtype[np.float64]] = np.sqrt(
            self.m2 / np.maximum(self.count, 1)
        )
        return deviation

    def skewness(self) -> Float64[np.ndarray, " neurons"]:
        """m3 / m2^1.5 (Fisher–Pearson, population); NaN where a neuron never varied."""
        return self._standardized(self.m3, 3)

    def kurtosis(self) -> Float64[np.ndarray, " neurons"]:
        """Excess kurtosis, m4 / m2² − 3 (population); NaN where a neuron never varied."""
        return self._standardized(self.m4, 4) - 3

    def _standardized(
        self, sums: Float64[np.ndarray, " neurons"], power: int
    ) -> Float64[np.ndarray, " neurons"]:
        std = self.std()
        # Rounding leaves a constant neuron a deviation of some ulps of its mean.
        varies = std > 1e-12 * np.abs(self.mean)
        result = np.full(len(std), np.nan)
        np.divide(sums / np.maximum(self.count, 1), std**power, out=result, where=varies)
        return result


class Histogram:
    """An exact histogram of each neuron whose range need not be known beforehand.

    Values from 0 on and values below 0 have half the bins each, of their own width 2^e with edges
    at multiples of it, so 0 is always an edge and neither side takes the other's precision. When
    a side outgrows its bins, its e grows and neighbouring bins are joined: every count stays exact,
    and the final bins depend on nothing but the values counted. Bin `half + i` covers
    [i·2^e, (i + 1)·2^e), with i from −half on and the e of its side.
    """

    def __init__(self, neurons: int, bins: int = FINE_BINS) -> None:
        self.half = bins // 2
        self.counts: Int32[np.ndarray, "neurons bins"] = np.zeros((neurons, bins), np.int32)
        self.below = np.full(neurons, _SMALLEST_EXPONENT, np.int64)  # e of the negative side
        self.above = np.full(neurons, _SMALLEST_EXPONENT, np.int64)
        self.high = np.full(neurons, -np.inf)

    def add(
        self,
        first: int,
        activations: Float[Tensor, "positions n"],
        low: Float32[np.ndarray, " n"],
        high: Float32[np.ndarray, " n"],
    ) -> None:
        """Count the included positions of a batch for n neurons from `first` on.

        `low` and `high` are the smallest and largest of those activations.
        """
        if activations.shape[0] == 0:
            return
        everything = slice(first, first + activations.shape[1])
        self._widen(everything, low.astype(np.float64), high.astype(np.float64))
        for start, piece in _pieces(activations):
            where = slice(first + start, first + start + piece.shape[1])
            self.counts[where] += self._count(where, piece.float())

    def _count(
        self, where: slice, values: Float[Tensor, "positions n"]
    ) -> Int32[np.ndarray, "n bins"]:
        # Exact in float32: scaling is by a power of two, and there are few bins.
        neurons, bins = values.shape[1], 2 * self.half
        above, below = (
            torch.from_numpy(np.ldexp(1.0, -exponent[where]).astype(np.float32)).to(values.device)
            for exponent in (self.above, self.below)
        )
        places = (values.clamp(min=0) * above).floor_()
        places += (values.clamp(max=0) * below).floor_()
        row = torch.arange(neurons, dtype=torch.int32, device=values.device) * bins + self.half
        counts = torch.bincount((places.int() + row).flatten(), minlength=neurons * bins)
        return counts.view(neurons, bins).cpu().numpy().astype(np.int32)

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
        """Counts moved to bins 2^above and 2^below as wide."""
        rows, bins = np.nonzero(counts)
        index = bins - self.half
        growth = np.where(index >= 0, above[rows], below[rows])
        moved = np.zeros_like(counts)
        np.add.at(moved, (rows, (index >> growth) + self.half), counts[rows, bins])
        return moved

    def tenth_of(
        self, maximum: Float64[np.ndarray, " neurons"]
    ) -> tuple[Float64[np.ndarray, " neurons"], Int64[np.ndarray, " neurons"]]:
        """10% of each maximum rounded up to an edge, and how many positions are at or above it.

        The edge is at most 1/64 of the sample's own maximum higher. A neuron whose maximum is not
        above 0 gets 0 and none.
        """
        # Nothing in the sample may reach a tenth of the maximum: then no edge is near it.
        beyond = maximum / 10 > self.high
        edge = np.ceil(np.ldexp(np.where(beyond, 0.0, maximum) / 10, -self.above))
        over = np.arange(2 * self.half) >= np.clip(edge, 0, self.half)[:, None] + self.half
        counted = (self.counts * over).sum(axis=1, dtype=np.int64)
        tenth = np.where(beyond, maximum / 10, np.ldexp(edge, self.above))
        alive = maximum > 0
        return np.where(alive, tenth, 0.0), np.where(alive & ~beyond, counted, 0)

    def shown(
        self, neuron: int, bins: int = SHOWN_BINS
    ) -> tuple[Float64[np.ndarray, " edges"], Int64[np.ndarray, " bins"]]:
        """Edges and counts of one neuron, joined into at most `bins` equal bins over its range."""
        filled = np.flatnonzero(self.counts[neuron])
        if not len(filled):
            return np.array([0.0, 0.0]), np.array([0])
        counts = self.counts[neuron, filled].astype(np.int64)
        index = filled - self.half
        sides = np.where(index >= 0, self.above[neuron], self.below[neuron])
        exponent = int(sides.max())
        index >>= exponent - sides
        while index[-1] - index[0] + 1 > bins:
            index >>= 1
            exponent += 1
        joined = np.bincount(index - index[0], weights=counts)
        edges = np.ldexp(np.arange(index[0], index[-1] + 2, dtype=np.float64), exponent)
        return edges, joined.astype(np.int64)


class SignCounts:
    """How often each gated neuron's gate and linear part have each pair of signs.

    `counts[n]` is how many positions had (gate, linear): (> 0, > 0), (> 0, ≤ 0), (≤ 0, > 0),
    (≤ 0, ≤ 0).
    """

    def __init__(self, neurons: int) -> None:
        self.counts: Int64[np.ndarray, "neurons 4"] = np.zeros((neurons, 4), np.int64)

    def add(
        self,
        first: int,
        gate: Float[Tensor, "batch pos n"],
        linear: Float[Tensor, "batch pos n"],
        included: Bool[Tensor, "batch pos"] | None,
    ) -> None:
        """Count a batch for n neurons from `first` on; `included` None counts all positions."""
        batch, pos, neurons = gate.shape
        sums = torch.zeros((3, neurons), dtype=torch.float64, device=gate.device)
        # A few contexts at a time stay in a CPU's cache, and sums of ones are exact in float32.
        step = max(1, (_PIECE * 2048 if gate.device.type == "cpu" else 1 << 24) // (pos * neurons))
        for start in range(0, batch, step):
            some = slice(start, start + step)
            gates, linears = (gate[some] > 0).float(), (linear[some] > 0).float()
            if included is not None:
                gates *= included[some, :, None]
                linears *= included[some, :, None]
            parts = (gates * linears, gates, linears)
            sums += torch.stack([part.sum(dim=(0, 1)) for part in parts])
        both, gated, through = sums.cpu().numpy().astype(np.int64)
        total = batch * pos if included is None else int(included.sum())
        counted = [both, gated - both, through - both, total - gated - through + both]
        self.counts[first : first + neurons] += np.stack(counted, axis=1)


def _exponent_over(largest: Float64[np.ndarray, " n"], bins: int) -> Int64[np.ndarray, " n"]:
    """An e for which `bins` bins of width 2^e hold `largest`, and half as many would not."""
    _, magnitude = np.frexp(largest)  # largest < 2^magnitude
    exponent = magnitude.astype(np.int64) - int(np.log2(bins))
    fitting: Int64[np.ndarray, " n"] = np.where(largest > 0, exponent, _SMALLEST_EXPONENT)
    floored: Int64[np.ndarray, " n"] = np.maximum(fitting, _SMALLEST_EXPONENT)
    return floored


def _pieces(
    activations: Float[Tensor, "positions n"],
) -> Iterator[tuple[int, Float[Tensor, "positions piece"]]]:
    """Columns a few at a time, so that what is computed of them stays in the cache."""
    for start in range(0, activations.shape[1], _PIECE):
        yield start, activations[:, start : start + _PIECE]


@dataclass(frozen=True)
class BandCuts:
    """Where each neuron's peaks are cut into bands: quantiles over the sample's first half."""

    cuts: Float64[np.ndarray, "neurons 3"]

    def band_of(
        self, where: slice, peaks: Float32[np.ndarray, "batch n"]
    ) -> Int64[np.ndarray, "batch n"]:
        """The band (0 is the lowest) of each peak: a cut belongs to the band above it."""
        cuts = self.cuts[where]
        above = peaks[:, :, None].astype(np.float64) >= cuts
        band: Int64[np.ndarray, "batch n"] = above.sum(axis=2, dtype=np.int64)
        return band


def quantiles(
    peaks: Float32[np.ndarray, "neurons contexts"], levels: tuple[float, ...]
) -> Float64[np.ndarray, "neurons levels"]:
    """Quantiles of each row, interpolated linearly (Hyndman and Fan's type 7), in float64."""
    out = np.empty((len(peaks), len(levels)))
    for start in range(0, len(peaks), 2048):  # float64 copies of a piece at a time
        piece = peaks[start : start + 2048].astype(np.float64)
        out[start : start + 2048] = np.quantile(piece, levels, axis=1).T
    return out


def peak_histogram(
    peaks: Float32[np.ndarray, " contexts"],
) -> tuple[Float64[np.ndarray, " 2"], Int32[np.ndarray, " bins"]]:
    """One neuron's peaks in equal bins from the lowest to the highest: (first edge, width), counts.

    Each bin has its lower edge, the last both; where all peaks are one value there is one bin, of
    width 0.
    """
    low, high = float(peaks.min()), float(peaks.max())
    if low == high:
        return np.array([low, 0.0]), np.array([len(peaks)], np.int32)
    counts, _ = np.histogram(peaks.astype(np.float64), PEAK_BINS)
    return np.array([low, (high - low) / PEAK_BINS]), counts.astype(np.int32)


def means_by_slot(
    peaks: Float32[np.ndarray, "neurons contexts"],
    slots: Int64[np.ndarray, " contexts"],
    count: int,
) -> Float64[np.ndarray, "neurons slots"]:
    """Mean peak over the contexts of each of `count` slots; NaN where a slot has no context."""
    means = np.full((len(peaks), count), np.nan)
    for slot in range(count):
        members = np.flatnonzero(slots == slot)
        if len(members):
            means[:, slot] = peaks[:, members].mean(axis=1, dtype=np.float64)
    return means
