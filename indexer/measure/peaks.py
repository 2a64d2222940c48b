"""Statistics of the sample's peaks, and counts of the signs of gates and linear parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Float64, Int32, Int64

from indexer.store.packing.codec import peak_unit

Array = np.ndarray[Any, Any]

PEAK_BINS = 40
"""Bins of the histogram of peaks, unless all peaks are one value."""
PEAK_QUANTILES = (0.01, 0.10, 0.25, 0.50, 0.75, 0.90, 0.99)
KEPT_PEAKS = 256
"""The sample's first contexts, of which each neuron's peak is stored to compare two neurons."""


class SignCounts:
    """How often each neuron's gate and linear part have each pair of signs.

    `counts[n]` are the numbers of positions with (gate, linear) = (> 0, > 0), (> 0, ≤ 0),
    (≤ 0, > 0), (≤ 0, ≤ 0).
    """

    def __init__(self, neurons: int) -> None:
        self.counts: Int64[np.ndarray, "neurons 4"] = np.zeros((neurons, 4), np.int64)

    def add(self, where: slice, positions: int, sums: Float64[np.ndarray, "3 n"]) -> None:
        """Add a batch of `positions` with the sums from `kernels.sign_sums`."""
        both, gate, linear = sums.astype(np.int64)
        counted = [both, gate - both, linear - both, positions - gate - linear + both]
        self.counts[where] += np.stack(counted, axis=1)


def quantiles(
    peaks: Float32[np.ndarray, "neurons contexts"], levels: tuple[float, ...]
) -> Float64[np.ndarray, "neurons levels"]:
    """Quantiles of each row, interpolated linearly (Hyndman and Fan's type 7), in float64."""
    out = np.empty((len(peaks), len(levels)))
    for start in range(0, len(peaks), 512):  # so that sorted copies stay small
        ordered = np.sort(peaks[start : start + 512], axis=1)
        out[start : start + 512] = sorted_quantiles(ordered, levels)
    return out


def sorted_quantiles(
    ordered: Float32[np.ndarray, "neurons contexts"], levels: tuple[float, ...]
) -> Float64[np.ndarray, "neurons levels"]:
    """The same for sorted rows."""
    place = (ordered.shape[1] - 1) * np.array(levels)
    below = np.floor(place).astype(np.int64)
    part = place - below
    low = ordered[:, below].astype(np.float64)
    high = ordered[:, np.ceil(place).astype(np.int64)].astype(np.float64)
    # Interpolate from the nearer value, so that a part near 1 gives the higher value exactly.
    step = high - low
    values: Float64[np.ndarray, "neurons levels"]
    values = np.where(part < 0.5, low + step * part, high - step * (1 - part))
    return values


def peak_histograms(
    ordered: Float32[np.ndarray, "neurons contexts"],
) -> tuple[
    Float64[np.ndarray, "neurons 2"],
    Int32[np.ndarray, "neurons bins"],
    Int64[np.ndarray, " neurons"],
]:
    """Each neuron's peaks, sorted, in equal bins from the lowest to the highest.

    Returns the lowest edge and the width of a bin, the counts, and the number of bins. A bin
    includes its lower edge, the last both edges; where all peaks are equal there is one bin of
    width 0.
    """
    low, high = ordered[:, 0].astype(np.float64), ordered[:, -1].astype(np.float64)
    ranges = np.stack([low, (high - low) / PEAK_BINS], axis=1)
    counts = np.zeros((len(ordered), PEAK_BINS), np.int32)
    counts[:, 0] = ordered.shape[1]
    varying = np.flatnonzero(low != high)
    edges = np.linspace(low[varying], high[varying], PEAK_BINS + 1, axis=1)
    below = np.full((len(varying), PEAK_BINS + 1), ordered.shape[1])
    below[:, 0] = 0
    for at, row, inner in zip(below, varying.tolist(), edges[:, 1:-1], strict=True):
        at[1:-1] = ordered[row].searchsorted(inner)
    counts[varying] = below[:, 1:] - below[:, :-1]
    return ranges, counts, np.where(low == high, 1, PEAK_BINS)


def source_peak_histograms(
    peaks: Float32[np.ndarray, "neurons contexts"],
    slots: Int64[np.ndarray, " contexts"],
    count: int,
) -> tuple[Int32[np.ndarray, "neurons slots*bins"], Int64[np.ndarray, " neurons"]]:
    """The counts of `peak_histograms` for the contexts of each of `count` slots, one slot after the
    other, and how many numbers that is for each neuron."""
    low, high = peaks.min(axis=1).astype(np.float64), peaks.max(axis=1).astype(np.float64)
    bins = np.where(low == high, 1, PEAK_BINS)
    counts = np.zeros((len(peaks), count * PEAK_BINS), np.int32)
    if not count:
        return counts, bins * count
    for row, (of_neuron, first, last, width) in enumerate(
        zip(peaks, low.tolist(), high.tolist(), bins.tolist(), strict=True)
    ):
        inner = np.linspace(first, last, PEAK_BINS + 1)[1:width]
        places = slots * width + np.searchsorted(inner, of_neuron, side="right")
        counts[row, : count * width] = np.bincount(places, minlength=count * width)
    return counts, bins * count


def kept_peaks(
    peaks: Float32[np.ndarray, "neurons contexts"],
    low: Float64[np.ndarray, " neurons"],
    high: Float64[np.ndarray, " neurons"],
) -> Float16[np.ndarray, "neurons kept"]:
    """Peaks of the sample's first contexts as float16, in units of `peak_unit`: at most 1 in size.

    `low` and `high` are each neuron's minimum and maximum in the whole run.
    """
    first = peaks[:, :KEPT_PEAKS].astype(np.float64)
    kept: Float16[np.ndarray, "neurons kept"]
    kept = (first / peak_unit(low, high)[:, None]).astype("<f2")
    return kept


def sample_identity(contexts: Iterable[Array]) -> str:
    """blake2b of the tokens of the sample's first contexts: peaks of runs with equal identity can
    be compared. `contexts` are their token ids, in the order of the sample."""
    hashed = hashlib.blake2b(digest_size=32)
    for token_ids in contexts:
        hashed.update(len(token_ids).to_bytes(8, "little") + token_ids.astype("<u4").tobytes())
    return hashed.hexdigest()


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
            # Contiguous rows, because numpy sums (and rounds) other layouts in another order.
            of_slot = np.ascontiguousarray(peaks[:, members], dtype=np.float64)
            means[:, slot] = of_slot.mean(axis=1)
    return means
