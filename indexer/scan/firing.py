"""What a scan measures of a sparse set's units wherever they fire, over all contexts: how often,
how strongly, and in which contexts. Every number is independent of the order of batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from indexer.measure.firing import Fired, FiringPeaks
from indexer.measure.histogram import Histogram
from indexer.measure.layer import LayerBatch, Pairs, Wanted
from indexer.measure.selection import Selection
from indexer.scan.shape import ScanShape
from indexer.store.sizes import RANDOM_EXAMPLES

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class FiringResult:
    """What another process measured of some contexts: counts of all units, and what fires."""

    positions: Int64[np.ndarray, " layers"]
    counts: Int64[np.ndarray, " units"]
    histogram: Histogram
    peaks: tuple[Array, Array, Array]
    """Units, keys and peaks [entries], as `FiringPeaks.entries` gives them."""


class FiringScan:
    """Everything measured of where units fire."""

    def __init__(self, shape: ScanShape) -> None:
        """Raises ValueError for a shape without ranks."""
        if shape.ranks is None:
            raise ValueError("only sparse sets are measured where they fire")
        self.ranks = shape.ranks
        self.positions = np.zeros(len(shape.widths), np.int64)
        self.counts = np.zeros(shape.neurons, np.int64)
        self.histogram = Histogram(shape.neurons)
        self.peaks = FiringPeaks(shape.neurons)
        self.examples = Selection(shape.neurons, RANDOM_EXAMPLES, shape.window)

    def arrays(self) -> dict[str, Array]:
        """All arrays of the state by name, not copied, so that they can be saved or filled."""
        named: dict[str, Array] = {"positions": self.positions, "counts": self.counts}
        named |= {f"histogram.{name}": value for name, value in self.histogram.arrays().items()}
        named |= {f"peaks.{name}": value for name, value in self.peaks.arrays().items()}
        return named | {f"examples.{name}": value for name, value in self.examples.named().items()}

    def wanted(
        self, where: slice, seen: LayerBatch, peaks: Float32[np.ndarray, "batch n"]
    ) -> Wanted:
        """Record a layer's peaks; the examples wanted of this batch."""
        ranks = self.ranks[seen.batch.context_ids].astype(np.int64)
        self.peaks.add(*self.peaks.entering(where, ranks, peaks))
        contexts, units = np.nonzero((peaks > 0) & (ranks[:, None] < self.examples.ids[where, -1]))
        # With equal values, a selection keeps the contexts that come first in the hash order.
        equal = np.zeros(len(contexts), np.float32)
        entered, slots = self.examples.admit(units + where.start, equal, ranks[contexts])
        return Wanted(Pairs(contexts[entered], units[entered]), self.examples.payload, slots)

    def add(
        self,
        layer: int,
        where: slice,
        seen: LayerBatch,
        peaks: Float32[np.ndarray, "batch n"],
        fired: Fired,
    ) -> None:
        """Add where a layer's units fire in a batch."""
        self.positions[layer] += int(seen.batch.included.sum())
        self.counts[where] += fired.counts(where.stop - where.start)
        high = np.maximum(peaks.max(axis=0), 0)
        above, _ = self.histogram.prepare(where, np.zeros_like(high), high)
        bins = self.histogram.half + (fired.values * above[fired.units]).astype(np.int64)
        np.add.at(self.histogram.counts, (where.start + fired.units, bins), 1)

    def clear(self, floor: Array) -> None:
        """Forget everything except the examples, whose bounds the caller sets, before further
        contexts are measured for another scan. `floor` [units] is `FiringPeaks.floor` of that
        scan."""
        self.positions.fill(0)
        self.counts.fill(0)
        self.histogram = Histogram(len(self.counts))
        self.peaks.clear(floor)

    def result(self) -> FiringResult:
        """What was measured since `clear`, without the examples."""
        return FiringResult(
            self.positions.copy(), self.counts.copy(), self.histogram, self.peaks.entries()
        )

    def merge(self, other: FiringScan | FiringResult) -> None:
        """Add what was measured on other contexts, without its examples."""
        self.positions += other.positions
        self.counts += other.counts
        self.histogram.merge(other.histogram)
        result = other.result() if isinstance(other, FiringScan) else other
        self.peaks.add(*result.peaks)
