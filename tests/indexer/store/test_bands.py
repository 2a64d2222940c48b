"""Peaks and the bands they are in."""

from __future__ import annotations

import numpy as np
import pytest

from indexer.store.bands import BAND_QUANTILES, BAND_SHARES, BandCuts, band_of


def test_shares_are_what_the_cuts_leave() -> None:
    """From the lowest band up, they end at the cuts and add up to all contexts."""
    assert np.cumsum(BAND_SHARES) == pytest.approx([*BAND_QUANTILES, 1])


def test_a_cut_belongs_to_the_band_above_it() -> None:
    """Counted one by one, for a unit and for several."""
    cuts = np.array([[0.5, 1.0, 1.0], [-1.0, 0.0, 2.0]])
    peaks = np.array([[0.25, -1.0], [0.5, -0.5], [1.0, 2.0], [3.0, 0.0]], np.float32)
    expected = [
        [sum(float(peak) >= cut for cut in cuts[unit]) for unit, peak in enumerate(row)]
        for row in peaks
    ]
    assert BandCuts(cuts).band_of(slice(None), peaks).tolist() == expected
    for unit in range(2):
        own = band_of(cuts[unit], peaks[:, unit])
        assert own.tolist() == [row[unit] for row in expected]
