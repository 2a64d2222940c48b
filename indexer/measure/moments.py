"""Count, mean and higher moments of every neuron, summed over batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

_UNSET = np.iinfo(np.int64).min
"""The exponent of a neuron whose values were all equal so far: its powers are 0."""
_ALL = slice(None)


class Moments:
    """Sums of powers 1–4 of each neuron's activations minus a shift, in float64.

    The shift is the neuron's mean over the first positions seen, so that the powers do not cancel.
    The differences are scaled by a power of two, which follows the largest of them, so that float32
    holds the fourth power. Mean and standard deviation are exact to about 1e-7 of the standard
    deviation (float32's rounding), skewness and kurtosis to about 1e-6 of their largest term.
    """

    def __init__(self, neurons: int) -> None:
        self.count = np.zeros(neurons, np.int64)
        self.positive = np.zeros(neurons, np.int64)
        self.shift = np.zeros(neurons, np.float32)
        self.exponent = np.full(neurons, _UNSET, np.int64)
        """The scale is 2^−exponent."""
        self.powers: Float64[np.ndarray, "4 neurons"] = np.zeros((4, neurons))
        self.low = np.full(neurons, np.inf, np.float32)
        self.high = np.full(neurons, -np.inf, np.float32)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """All arrays, by name."""
        return dict(vars(self))

    def prepare(
        self,
        where: slice,
        shift: Float32[np.ndarray, " n"],
        low: Float32[np.ndarray, " n"],
        high: Float32[np.ndarray, " n"],
    ) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """The shift and scale for positions with these smallest and largest values.

        `shift` is about their mean; it is used if these are the first positions.
        """
        first = self.count[where] == 0
        self.shift[where] = np.where(first, np.clip(shift, low, high), self.shift[where])
        self.low[where] = np.minimum(self.low[where], low)
        self.high[where] = np.maximum(self.high[where], high)
        centre = self.shift[where].astype(np.float64)
        largest = np.maximum(self.high[where] - centre, centre - self.low[where])
        _, exponent = np.frexp(largest)
        # Float32 has no larger or smaller powers of two; smaller differences count as 0.
        exponent = np.clip(exponent, -125, 125).astype(np.int64)
        exponent = np.where(largest > 0, np.maximum(exponent, self.exponent[where]), _UNSET)
        before = self._exponents(where)
        self.exponent[where] = exponent
        shrink = before - self._exponents(where)
        for power in range(4):
            self.powers[power, where] = np.ldexp(self.powers[power, where], (power + 1) * shrink)
        return self.shift[where], np.ldexp(1.0, -self._exponents(where)).astype(np.float32)

    def add(
        self,
        where: slice,
        count: int,
        powers: Float64[np.ndarray, "4 n"],
        positive: Int64[np.ndarray, " n"],
    ) -> None:
        """Add sums over `count` positions, computed with the shift and scale from `prepare`."""
        self.count[where] += count
        self.powers[:, where] += powers
        self.positive[where] += positive

    def about_shift(
        self, where: slice, powers: Float64[np.ndarray, "4 n"]
    ) -> tuple[Float64[np.ndarray, "2 n"], Int64[np.ndarray, " n"]]:
        """Sum and sum of squares about the shift, from sums computed with the scale that `prepare`
        gave last, and the exponents of that scale."""
        exponents = self._exponents(where)
        about = np.stack([np.ldexp(powers[p], (p + 1) * exponents) for p in range(2)])
        return about, exponents

    @property
    def mean(self) -> Float64[np.ndarray, " neurons"]:
        """The mean; NaN where nothing was added."""
        with np.errstate(invalid="ignore"):
            offset = self.powers[0] / np.where(self.count, self.count, np.nan)
        mean: np.ndarray[Any, Any] = self.shift + np.ldexp(offset, self._exponents())
        return np.where(self._varies(), mean, np.where(self.count > 0, self.low, np.nan))

    def std(self) -> Float64[np.ndarray, " neurons"]:
        """Population standard deviation (divided by n)."""
        deviation: np.ndarray[Any, Any] = np.sqrt(self._central(2))
        return np.where(self._varies(), np.ldexp(deviation, self._exponents()), 0.0)

    def skewness(self) -> Float64[np.ndarray, " neurons"]:
        """m3 / m2^1.5 (Fisher–Pearson, population); NaN where all values are equal."""
        return self._standardized(3)

    def kurtosis(self) -> Float64[np.ndarray, " neurons"]:
        """Excess kurtosis, m4 / m2² − 3 (population); NaN where all values are equal."""
        return self._standardized(4) - 3

    def _varies(self) -> Bool[np.ndarray, " neurons"]:
        varies: Bool[np.ndarray, " neurons"] = self.high > self.low
        return varies

    def _exponents(self, where: slice = _ALL) -> Int64[np.ndarray, " n"]:
        exponent = self.exponent[where]
        return np.where(exponent == _UNSET, 0, exponent)

    def _central(self, power: int) -> Float64[np.ndarray, " neurons"]:
        """Central moments of the scaled values, by the binomial formula."""
        s1, s2, s3, s4 = self.powers / np.maximum(self.count, 1)
        central: np.ndarray[Any, Any]
        if power == 2:
            central = np.maximum(s2 - s1**2, 0)
        elif power == 3:
            central = s3 - 3 * s1 * s2 + 2 * s1**3
        else:
            central = s4 - 4 * s1 * s3 + 6 * s1**2 * s2 - 3 * s1**4
        return central

    def _standardized(self, power: int) -> Float64[np.ndarray, " neurons"]:
        spread = self._central(2)
        result = np.full(len(spread), np.nan)
        varies = self._varies() & (spread > 0)
        np.divide(self._central(power), spread ** (power / 2), out=result, where=varies)
        return result
