"""What results need of a sparse set: numbers and examples of the contexts in which units fire."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int64

from indexer.measure.peaks import (
    PEAK_BINS,
    PEAK_QUANTILES,
    peak_histograms,
    sorted_quantiles,
)
from indexer.measure.selection import NO_ID, Payload
from indexer.scan.firing import FiringScan
from indexer.store.bands import BAND_QUANTILES, BANDS, BandCuts
from indexer.store.packing.layout import Columns
from indexer.store.sizes import BAND_EXAMPLES

Array = np.ndarray[Any, Any]


def firing_facts(
    firing: FiringScan, where: slice, maximum: Array, positions: Array
) -> tuple[dict[str, Array], dict[str, Columns]]:
    """Scalars by column and small arrays by name of a block of units: densities over all
    `positions` [n], the histogram of the positions at which a unit fires, and all that follows from
    its peaks where it fires. A unit that never fires has peaks of 0 and no bands."""
    tenth, above = firing.histogram.tenth_of(where, maximum)
    scalars = {
        "density": firing.counts[where] / positions,
        "density_over_tenth": above / positions,
        "tenth": tenth,
    }
    count = where.stop - where.start
    quantiles = np.zeros((count, len(PEAK_QUANTILES)))
    cuts = np.full((count, BANDS - 1), np.nan)
    bands = np.zeros((count, BANDS), np.int64)
    ranges, bins = np.zeros((count, 2)), np.zeros((count, PEAK_BINS), np.int32)
    lengths = np.ones(count, np.int64)
    for rows, peaks in _by_size(firing, where):
        ordered = np.sort(peaks, axis=1)
        quantiles[rows] = sorted_quantiles(ordered, PEAK_QUANTILES)
        cuts[rows] = sorted_quantiles(ordered, BAND_QUANTILES)
        in_band = BandCuts(cuts[rows]).band_of(slice(None), peaks.T)
        bands[rows] = (in_band[:, :, None] == np.arange(BANDS)).sum(axis=0)
        ranges[rows], bins[rows], lengths[rows] = peak_histograms(ordered)
    histogram_ranges, histogram_bins, histogram_lengths = firing.histogram.shown(where)
    arrays = {
        "peak_quantiles": Columns(quantiles),
        "histogram_range": Columns(histogram_ranges),
        "histogram_counts": Columns(histogram_bins, histogram_lengths),
        "peak_histogram_range": Columns(ranges),
        "peak_histogram_counts": Columns(bins, lengths),
        "band_cuts": Columns(cuts),
        "band_counts": Columns(bands),
    }
    return scalars, arrays


def firing_examples(
    firing: FiringScan, where: slice
) -> tuple[Payload, Array, Int64[np.ndarray, " units"]]:
    """The payload with the examples of a block of units, their places in it in the order of ranks,
    unit by unit, and how many each unit has."""
    real = firing.examples.ids[where] != NO_ID
    return firing.examples.payload, firing.examples.slots[where][real], real.sum(axis=1)


def firing_bands(
    firing: FiringScan, where: slice, cuts: Array
) -> tuple[Payload, Array, Int64[np.ndarray, " units"]]:
    """The same for examples by band, lowest band first: up to three examples of each unit and band,
    in hash order. `cuts` [units, bands − 1] are the block's. Returns the payload, slots in it
    [examples], and the number of examples of each unit."""
    payload = firing.examples.payload
    real = firing.examples.ids[where] != NO_ID
    slots = firing.examples.slots[where]
    peaks = np.where(real, payload.peaks[slots], np.nan)
    band = BandCuts(cuts).band_of(slice(None), peaks.T).T
    band = np.where(real, band, BANDS)
    chosen = np.zeros((*band.shape, BANDS), np.bool_)
    for number in range(BANDS):
        inside = band == number
        chosen[:, :, number] = inside & (np.cumsum(inside, axis=1) <= BAND_EXAMPLES)
    units, _, places = np.nonzero(chosen.transpose(0, 2, 1))
    return payload, slots[units, places], chosen.sum(axis=(1, 2))


def _by_size(firing: FiringScan, where: slice) -> list[tuple[Array, Array]]:
    """The block's units that fire, in groups with equally many peaks, and these peaks [m, k]."""
    counts = firing.peaks.counts[where]
    peaks = firing.peaks.of(where)
    return [
        (rows, np.stack([peaks[row] for row in rows]))
        for size in np.unique(counts[counts > 0]).tolist()
        for rows in [np.flatnonzero(counts == size)]
    ]
