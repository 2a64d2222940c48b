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
from jaxtyping import Float, Float32, Float64, Int32, Int64
from torch import Tensor

FINE_BINS = 256
"""Bins of the histogram while it is accumulated."""
SHOWN_BINS = 64
"""Bins of the histogram that is kept, at most."""
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

    A neuron's bins have the width 2^e and edges at multiples of it. When the range outgrows the
    bins, e grows and neighbouring bins are joined, so every count stays exact; the final bins
    depend on nothing but the values counted. Bin i of neuron n covers
    [(first[n] + i)·2^e[n], (first[n] + i + 1)·2^e[n]).
    """

    def __init__(self, neurons: int, bins: int = FINE_BINS) -> None:
        self.bins = bins
        self.counts: Int32[np.ndarray, "neurons bins"] = np.zeros((neurons, bins), np.int32)
        self.exponent = np.full(neurons, _SMALLEST_EXPONENT, np.int64)
        self.first = np.zeros(neurons, np.int64)
        self.low = np.full(neurons, np.inf)
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
        # All exact in float32: scaling is by a power of two, and a bin's number is below 2^24.
        neurons = values.shape[1]
        scale = np.ldexp(1.0, -self.exponent[where]).astype(np.float32)
        begin = self.first[where].astype(np.float32)
        row = np.arange(neurons, dtype=np.int32) * self.bins
        places = values * torch.from_numpy(scale).to(values.device)
        places = places.floor_().sub_(torch.from_numpy(begin).to(values.device)).int()
        places += torch.from_numpy(row).to(values.device)
        counts = torch.bincount(places.flatten(), minlength=neurons * self.bins)
        return counts.view(neurons, self.bins).cpu().numpy().astype(np.int32)

    def _widen(
        self, where: slice, low: Float64[np.ndarray, " n"], high: Float64[np.ndarray, " n"]
    ) -> None:
        self.low[where] = np.minimum(self.low[where], low)
        self.high[where] = np.maximum(self.high[where], high)
        exponent = _fitting_exponent(self.low[where], self.high[where], self.bins)
        first = np.floor(np.ldexp(self.low[where], -exponent)).astype(np.int64)
        changed = np.flatnonzero((exponent != self.exponent[where]) | (first != self.first[where]))
        if len(changed):
            rows = changed + where.start
            self.counts[rows] = _rebinned(
                self.counts[rows],
                self.first[rows],
                exponent[changed] - self.exponent[rows],
                first[changed],
            )
            self.exponent[rows] = exponent[changed]
            self.first[rows] = first[changed]

    def tenth_of(
        self, maximum: Float64[np.ndarray, " neurons"]
    ) -> tuple[Float64[np.ndarray, " neurons"], Int64[np.ndarray, " neurons"]]:
        """10% of each maximum rounded up to an edge, and how many positions are at or above it.

        A neuron whose maximum is not above 0 gets 0 and none.
        """
        # Nothing in the sample may reach a tenth of the maximum: then no edge is near it.
        beyond = maximum / 10 > self.high
        edge = np.ceil(np.ldexp(np.where(beyond, 0.0, maximum) / 10, -self.exponent))
        from_bin = np.clip(edge - self.first, 0, self.bins)
        above = np.arange(self.bins) >= from_bin[:, None]
        counted = (self.counts * above).sum(axis=1, dtype=np.int64)
        tenth = np.where(beyond, maximum / 10, np.ldexp(edge, self.exponent))
        alive = maximum > 0
        return np.where(alive, tenth, 0.0), np.where(alive & ~beyond, counted, 0)

    def shown(
        self, neuron: int, bins: int = SHOWN_BINS
    ) -> tuple[Float64[np.ndarray, " edges"], Int64[np.ndarray, " bins"]]:
        """Edges and counts of one neuron, joined into at most `bins` bins over its own range."""
        counts = self.counts[neuron].astype(np.int64)
        first, exponent = int(self.first[neuron]), int(self.exponent[neuron])
        filled = np.flatnonzero(counts)
        if not len(filled):
            return np.array([0.0, 0.0]), np.array([0])
        low, high = first + int(filled[0]), first + int(filled[-1])
        places = np.arange(low, high + 1)
        counts = counts[filled[0] : filled[-1] + 1]
        while high - low + 1 > bins:
            low, high, exponent, places = low >> 1, high >> 1, exponent + 1, places >> 1
        joined = np.bincount(places - low, weights=counts, minlength=high - low + 1)
        edges = np.ldexp(np.arange(low, high + 2, dtype=np.float64), exponent)
        return edges, joined.astype(np.int64)


def _fitting_exponent(
    low: Float64[np.ndarray, " n"], high: Float64[np.ndarray, " n"], bins: int
) -> Int64[np.ndarray, " n"]:
    """The smallest e for which bins of width 2^e at multiples of 2^e cover [low, high].

    It never falls as the range grows, so it depends on the final range alone. Its floor, 2^−24
    of the largest magnitude, is what float32 can tell apart.
    """
    largest = np.maximum(np.abs(low), np.abs(high))
    _, magnitude = np.frexp(largest)
    span = np.maximum(high - low, 0.0)
    _, width = np.frexp(span / bins)
    exponent = np.where(span > 0, width - 2, _SMALLEST_EXPONENT).astype(np.int64)
    exponent = np.maximum(exponent, np.where(largest > 0, magnitude - 24, _SMALLEST_EXPONENT))
    exponent = np.maximum(exponent, _SMALLEST_EXPONENT)
    while True:
        needed = np.floor(np.ldexp(high, -exponent)) - np.floor(np.ldexp(low, -exponent)) + 1
        short = needed > bins
        if not short.any():
            return exponent
        exponent = exponent + short


def _rebinned(
    counts: Int32[np.ndarray, "m bins"],
    first: Int64[np.ndarray, " m"],
    growth: Int64[np.ndarray, " m"],
    new_first: Int64[np.ndarray, " m"],
) -> Int32[np.ndarray, "m bins"]:
    """Counts moved to bins 2^growth as wide, whose first is `new_first`."""
    rows, old = np.nonzero(counts)
    places = ((first[rows] + old) >> growth[rows]) - new_first[rows]
    moved = np.zeros_like(counts)
    np.add.at(moved, (rows, places), counts[rows, old])
    return moved


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
