"""The bands of a unit's peaks, from which intermediate examples are chosen: where they are cut and
which peak is in which. The indexer fills them, and pages say which example is in which."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Float64, Int64

BAND_QUANTILES = (0.5, 0.9, 0.99)
"""Where the bands of peaks are cut."""
BANDS = len(BAND_QUANTILES) + 1
BAND_SHARES = tuple(round(high - low, 6) for low, high in pairwise((0.0, *BAND_QUANTILES, 1.0)))
"""The nominal share of contexts in each band, lowest band first."""


def band_of(
    cuts: Float64[np.ndarray, "... cuts"], peaks: Float32[np.ndarray, "*peaks"]
) -> Int64[np.ndarray, "*peaks"]:
    """The band (0 is the lowest) of each peak: a cut belongs to the band above it.

    Args:
        cuts: of each peak, or of the last dimensions of `peaks`; ascending.
        peaks: compared in float64, as the cuts were computed.
    """
    above = peaks[..., None].astype(np.float64) >= cuts
    band: Int64[np.ndarray, "*peaks"] = above.sum(axis=-1, dtype=np.int64)
    return band


@dataclass(frozen=True)
class BandCuts:
    """Where each neuron's peaks are cut into bands: quantiles over the sample's first half."""

    cuts: Float64[np.ndarray, "neurons 3"]

    def band_of(
        self, where: slice, peaks: Float32[np.ndarray, "batch n"]
    ) -> Int64[np.ndarray, "batch n"]:
        """The band of each peak of the neurons `where`."""
        return band_of(self.cuts[where], peaks)
