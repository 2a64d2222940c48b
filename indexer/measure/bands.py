"""Cuts the range of a neuron's peaks into bands, from which intermediate examples are chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

BAND_QUANTILES = (0.5, 0.9, 0.99)
"""Where the bands of peaks are cut."""
BANDS = len(BAND_QUANTILES) + 1


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
