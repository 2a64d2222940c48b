"""What a scan measures on the sample's contexts only: statistics, random examples and bands.

The sample's batches come first and in a fixed order, and one process measures them all: the bands'
cut points come from the sample's first half and are used on the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from indexer.corpus.batches import Batch
from indexer.measure.firing import Fired
from indexer.measure.histogram import Histogram
from indexer.measure.kernels import Scales, batch_sums, sign_sums
from indexer.measure.layer import LayerBatch, Pairs, Wanted
from indexer.measure.lookup import Bags, Lookup
from indexer.measure.moments import Moments
from indexer.measure.peaks import SignCounts, quantiles
from indexer.measure.selection import Payload, Selection
from indexer.measure.transfers import to_device
from indexer.scan.shape import ScanShape
from indexer.store.bands import BAND_QUANTILES, BANDS, BandCuts
from indexer.store.sizes import BAND_EXAMPLES

Array = np.ndarray[Any, Any]


class SampleScan:
    """Everything measured on the sample so far. For each layer of a batch call `wanted` and `sums`,
    then `add_sums` with the values of those sums."""

    def __init__(self, shape: ScanShape) -> None:
        neurons, window = shape.neurons, shape.window
        self.shape = shape
        # Sparse sets have their histograms and examples from wherever units fire: `FiringScan`.
        chosen = 0 if shape.sparse else neurons
        self.moments = Moments(neurons)
        self.histogram = Histogram(chosen)
        self.lookup = Lookup(neurons, shape.lookup)
        self.signs: SignCounts | None = None
        """None until the first batch with gates and linear parts."""
        self.peaks: Float32[np.ndarray, "neurons s"] = np.zeros(
            (neurons, len(shape.sample)), np.float32
        )
        self.random = Payload.empty(neurons * len(shape.random_contexts), window)
        self.bands = Selection(chosen * BANDS, BAND_EXAMPLES, window)
        self.band_counts = np.zeros((chosen, BANDS), np.int64)
        self._last_bags: tuple[Batch, Bags] | None = None
        self._cuts: BandCuts | None = None
        self._order = np.argsort(shape.sample)

    @property
    def half(self) -> int:
        """Contexts in the sample's first half."""
        return len(self.shape.sample) // 2

    @property
    def cuts(self) -> BandCuts | None:
        """Where peaks are cut into bands. Ask only when the whole first half is measured."""
        if self._cuts is None and self.half:
            self._cuts = BandCuts(quantiles(self.peaks[:, : self.half], BAND_QUANTILES))
        return self._cuts

    def arrays(self) -> dict[str, Array]:
        """All arrays of the state by name, not copied, so that they can be saved or filled."""
        named = {f"moments.{name}": value for name, value in self.moments.arrays().items()}
        named |= {f"histogram.{name}": value for name, value in self.histogram.arrays().items()}
        named |= {f"lookup.{name}": value for name, value in self.lookup.arrays().items()}
        named |= {"peaks": self.peaks, "band_counts": self.band_counts}
        named |= {f"random.{name}": value for name, value in self.random.named().items()}
        named |= {f"bands.{name}": value for name, value in self.bands.named().items()}
        return named if self.signs is None else named | {"signs": self.signs.counts}

    def count_signs(self) -> None:
        """Begin to count signs, if that has not begun."""
        self.signs = self.signs or SignCounts(self.shape.neurons)

    def sums(
        self,
        where: slice,
        seen: LayerBatch,
        peaks: Float32[np.ndarray, "batch n"],
        troughs: Float32[np.ndarray, "batch n"],
    ) -> dict[str, Tensor]:
        """A layer's sums over the batch, on its device, by name: `add_sums` takes their values."""
        low, high = troughs.min(axis=0), peaks.max(axis=0)
        included = seen.included(seen.activations)
        about = (peaks.mean(axis=0) + troughs.mean(axis=0)) / 2
        if not self.moments.count[where].any():  # the shift is taken from the first batch
            about = included[:1].float().mean(dim=(0, 1)).cpu().numpy()
        parts = (
            *self.moments.prepare(where, about, low, high),
            *self.histogram.prepare(where, low, high),
        )
        sums = batch_sums(included, Scales(*(to_device(part, seen.device) for part in parts)))
        tensors = {"powers": sums.powers, "positive": sums.positive, "counts": sums.counts}
        if len(self.shape.lookup):
            tensors["by_token"] = self._bags(seen).sums(seen.activations)
            tensors["range"] = torch.from_numpy(np.stack([low, high]))
        if seen.captured.parts:
            self.count_signs()
            gate, linear = (seen.included(part) for part in seen.captured.parts)
            tensors["signs"] = sign_sums(gate, linear)
        return tensors

    def add_sums(self, where: slice, seen: LayerBatch, values: Mapping[str, Array]) -> None:
        """Add to the layer's state what `sums` returned, as arrays on the host."""
        positions = int(seen.batch.included.sum())
        self.moments.add(where, positions, values["powers"], values["positive"])
        self.histogram.add(where, values["counts"])
        if "by_token" in values:
            self._add_by_token(where, seen, values)
        if self.signs is not None and "signs" in values:
            self.signs.add(where, positions, values["signs"])

    def add_fired(
        self,
        where: slice,
        seen: LayerBatch,
        peaks: Float32[np.ndarray, "batch n"],
        fired: Fired,
    ) -> None:
        """Add the moments of a sparse set's layer: all that is not 0 is in `fired`."""
        high, zero = peaks.max(axis=0), np.zeros(where.stop - where.start, np.float32)
        _, scale = self.moments.prepare(where, zero, np.minimum(high, 0), np.maximum(high, 0))
        positions = int(seen.batch.included.sum())
        counts = fired.counts(len(zero))
        self.moments.add(where, positions, fired.powers(scale), counts)

    def wanted(
        self, where: slice, seen: LayerBatch, peaks: Float32[np.ndarray, "batch n"]
    ) -> list[Wanted]:
        """Record a layer's peaks; the random and band examples wanted of this batch."""
        ranks = self._ranks(seen.batch.context_ids)
        if self.shape.sparse:  # memory of units that never fire is never touched
            contexts, units = np.nonzero(peaks)
            self.peaks[where.start + units, ranks[contexts]] = peaks[contexts, units]
            return []
        self.peaks[where, ranks] = peaks.T
        if seen.batch.part != "second_half":
            return []
        return [self._wanted_random(where, ranks), *self._wanted_bands(where, ranks, peaks)]

    def _add_by_token(self, where: slice, seen: LayerBatch, values: Mapping[str, Array]) -> None:
        bags, sums = self._bags(seen), values["by_token"]
        powers, exponents = self.moments.about_shift(where, values["powers"])
        if seen.batch.part == "first_half":
            self.lookup.add_first(where, bags, sums, powers[0])
        else:
            shift = self.moments.shift[where]
            self.lookup.add_second(where, bags, sums, powers, shift, exponents, *values["range"])

    def _bags(self, seen: LayerBatch) -> Bags:
        """The positions of a batch by token: the same for all its layers."""
        if self._last_bags is None or self._last_bags[0] is not seen.batch:
            self._last_bags = seen.batch, self.shape.lookup.bags(seen.batch)
        return self._last_bags[1]

    def _ranks(self, context_ids: Int64[np.ndarray, " batch"]) -> Int64[np.ndarray, " batch"]:
        """The contexts' places in the sample's hash order."""
        places = np.searchsorted(self.shape.sample, context_ids, sorter=self._order)
        return self._order[places]

    def _wanted_random(self, where: slice, ranks: Int64[np.ndarray, " batch"]) -> Wanted:
        count = len(self.shape.random_contexts)
        rows = np.flatnonzero(ranks < self.half + count)
        neurons = np.arange(where.stop - where.start)
        contexts = np.repeat(rows, len(neurons))
        columns = np.tile(neurons, len(rows))
        at = (where.start + columns) * count + ranks[contexts] - self.half
        return Wanted(Pairs(contexts, columns), self.random, at)

    def _wanted_bands(
        self,
        where: slice,
        ranks: Int64[np.ndarray, " batch"],
        peaks: Float32[np.ndarray, "batch n"],
    ) -> list[Wanted]:
        cuts = self.cuts
        if cuts is None:
            return []
        band = cuts.band_of(where, peaks)
        for index in range(BANDS):
            self.band_counts[where, index] += (band == index).sum(axis=0)
        rows = (np.arange(where.start, where.stop) * BANDS)[None, :] + band
        contexts, columns = np.nonzero(ranks[:, None] < self.bands.ids[rows, -1])
        # With equal values, a selection keeps the contexts that come first in the hash order.
        equal = np.zeros(len(contexts), np.float32)
        entered, slots = self.bands.admit(rows[contexts, columns], equal, ranks[contexts])
        pairs = Pairs(contexts[entered], columns[entered])
        return [Wanted(pairs, self.bands.payload, slots)]
