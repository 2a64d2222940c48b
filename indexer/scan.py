"""The state of a scan: what every batch's activations are measured into, layer by layer.

Extremes are taken over everything; the rest over the sample, whose contexts come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int64
from torch import Tensor

from indexer.batches import BLOCK_CONTEXTS, Batch, BatchPlan, Contexts, fill_batch, plan_batches
from indexer.captured import Captured, OnLayer
from indexer.errors import NeurariumError
from indexer.examples import Centre
from indexer.layer_batch import LayerBatch
from indexer.reporter import Reporter
from indexer.sample import (
    BAND_QUANTILES,
    BANDS,
    BandCuts,
    Histogram,
    Moments,
    SignCounts,
    quantiles,
)
from indexer.selection import Entries, Payload, Selection
from indexer.source_slots import slots_of

RANDOM_EXAMPLES = 15
BAND_EXAMPLES = 3
SOURCE_EXAMPLES = 3
DEAD_GATED = 1e-6
"""A gated MLP's neuron is dead when no activation's magnitude is above this."""


@dataclass(frozen=True)
class ScanShape:
    """The sizes that decide what a scan holds in memory."""

    widths: tuple[int, ...]
    """Neurons of each layer."""
    sample: Int64[np.ndarray, " s"]
    """The sample's context ids in hash order."""
    top_k: int
    bottom_k: int
    window: int
    """Activations stored an example."""
    source_slots: int = 0
    """Slots of sources that have examples of their own; 0 where the corpus has one source."""

    @property
    def source_examples(self) -> int:
        """Examples by source of a neuron."""
        return self.source_slots * SOURCE_EXAMPLES

    @property
    def neurons(self) -> int:
        """Neurons in all layers."""
        return sum(self.widths)

    @property
    def random_contexts(self) -> Int64[np.ndarray, " r"]:
        """The first contexts of the sample's second half."""
        half = len(self.sample) // 2
        return self.sample[half : half + RANDOM_EXAMPLES]

    @property
    def examples(self) -> int:
        """Examples of a neuron, of all kinds but those by source."""
        return self.top_k + self.bottom_k + len(self.random_contexts) + BANDS * BAND_EXAMPLES

    def bytes_held(self) -> int:
        """Memory the scan's state takes, in bytes, beyond the model and its forward pass."""
        peaks = 4 * len(self.sample)
        sums = 4 * 256 + 8 * 20
        return (
            Selection.bytes_for(self.neurons, self.examples, self.window)
            + Selection.bytes_for(self.neurons, self.source_examples, self.window)
            + self.neurons * (peaks + sums)
        )


class Corpus(Contexts, Protocol):
    """What a scan needs of a prepared corpus."""

    @property
    def source_index(self) -> np.ndarray[Any, Any]:
        """Source of every context: int [contexts]."""
        ...


class Model(Protocol):
    """What a scan needs of a model."""

    @property
    def device(self) -> torch.device:
        """Where token ids have to be."""
        ...

    def capture(
        self,
        tokens: Int[Tensor, "batch pos"],
        attention: Bool[Tensor, "batch pos"],
        on_layer: OnLayer,
    ) -> None:
        """One forward pass that hands over what each layer gave."""
        ...


class Scan:
    """Everything measured so far. Feed it each batch's layers with `add`."""

    def __init__(self, shape: ScanShape, source_index: np.ndarray[Any, Any]) -> None:
        """`source_index` is the source of every context of the corpus."""
        self.shape = shape
        self.source_index = source_index
        neurons, window = shape.neurons, shape.window
        self.offsets = np.concatenate([[0], np.cumsum(shape.widths)])
        self.top = Selection(neurons, shape.top_k, window)
        self.bottom = Selection(neurons, shape.bottom_k, window)
        self.bands = Selection(neurons * BANDS, BAND_EXAMPLES, window)
        self.by_source = Selection(neurons * shape.source_slots, SOURCE_EXAMPLES, shape.window)
        self.random = Payload.empty(neurons * len(shape.random_contexts), window)
        self.maximum = np.full(neurons, -np.inf, np.float32)
        self.minimum = np.full(neurons, np.inf, np.float32)
        self.moments = Moments(neurons)
        self.histogram = Histogram(neurons)
        self.signs: SignCounts | None = None
        """Of gated neurons whose gates and linear parts the model hands over."""
        self.sample_peaks: Float32[np.ndarray, "neurons s"] = np.zeros(
            (neurons, len(shape.sample)), np.float32
        )
        self.band_counts = np.zeros((neurons, BANDS), np.int64)
        self.cuts: BandCuts | None = None
        self._rank = {int(context): rank for rank, context in enumerate(shape.sample)}

    @property
    def half(self) -> int:
        """Contexts in the sample's first half."""
        return len(self.shape.sample) // 2

    def add(self, batch: Batch, layer: int, captured: Captured) -> None:
        """Measure what one layer gave on one batch. Raises NeurariumError on NaN or ±inf."""
        where = slice(int(self.offsets[layer]), int(self.offsets[layer + 1]))
        seen = LayerBatch(batch, captured)
        peaks, troughs = seen.extremes()
        if not (np.isfinite(peaks).all() and np.isfinite(troughs).all()):
            dtype = str(captured.activations.dtype).removeprefix("torch.")
            raise NeurariumError(
                f"The model gave a value that is not finite in layer {layer} "
                f"({dtype}): run again with "
                "--dtype float32, or check the model's weights."
            )
        np.maximum(self.maximum[where], peaks.max(axis=0), out=self.maximum[where])
        np.minimum(self.minimum[where], troughs.min(axis=0), out=self.minimum[where])
        self._select(self.top, where, peaks, seen, "peak")
        self._select(self.bottom, where, -troughs, seen, "trough")
        if self.shape.source_slots:
            self._select(self.by_source, self._source_rows(where, batch), peaks, seen, "peak")
        if batch.part != "rest":
            self._add_sample(where, peaks, troughs, seen)

    def _source_rows(self, where: slice, batch: Batch) -> Int64[np.ndarray, "batch n"]:
        """The row of `by_source` that each context competes in, for each neuron."""
        slots = slots_of(self.source_index[batch.context_ids])
        neurons = np.arange(where.start, where.stop) * self.shape.source_slots
        rows: Int64[np.ndarray, "batch n"] = neurons[None, :] + slots[:, None]
        return rows

    def _select(
        self,
        selection: Selection,
        rows: slice | Int64[np.ndarray, "batch n"],
        values: Float32[np.ndarray, "batch n"],
        seen: LayerBatch,
        centre: Centre,
    ) -> None:
        ids = seen.batch.context_ids
        contexts, columns = np.nonzero(selection.entering(rows, values, ids))
        if len(contexts):
            payload = seen.describe(contexts, columns, selection.window, centre)
            entered = columns + rows.start if isinstance(rows, slice) else rows[contexts, columns]
            selection.add(Entries(entered, values[contexts, columns], ids[contexts], payload))

    def _add_sample(
        self,
        where: slice,
        peaks: Float32[np.ndarray, "batch n"],
        troughs: Float32[np.ndarray, "batch n"],
        seen: LayerBatch,
    ) -> None:
        batch = seen.batch
        ranks = np.array([self._rank[int(context)] for context in batch.context_ids], np.int64)
        self.sample_peaks[where, ranks] = peaks.T
        included = seen.included_activations()
        self.moments.add(where.start, included)
        self.histogram.add(where.start, included, troughs.min(axis=0), peaks.max(axis=0))
        self._add_signs(where, seen)
        if batch.part == "second_half":
            self._add_random(where, ranks, seen)
            if self.half:
                self._add_bands(where, ranks, peaks, seen)

    def _add_signs(self, where: slice, seen: LayerBatch) -> None:
        gate, linear = seen.captured.gate, seen.captured.linear
        if gate is None or linear is None:
            return
        if self.signs is None:
            self.signs = SignCounts(self.shape.neurons)
        begin, mask = (seen.first, None) if seen.first is not None else (0, seen.mask())
        self.signs.add(where.start, gate[:, begin:], linear[:, begin:], mask)

    def _add_random(
        self, where: slice, ranks: Int64[np.ndarray, " batch"], seen: LayerBatch
    ) -> None:
        count = len(self.shape.random_contexts)
        neurons = where.stop - where.start
        for row in np.flatnonzero(ranks < self.half + count):
            place = int(ranks[row]) - self.half
            payload = seen.describe(
                np.full(neurons, row), np.arange(neurons), self.shape.window, "peak"
            )
            rows = np.arange(where.start, where.stop) * count + place
            for mine, new in zip(self.random.arrays(), payload.arrays(), strict=True):
                mine[rows] = new

    def _add_bands(
        self,
        where: slice,
        ranks: Int64[np.ndarray, " batch"],
        peaks: Float32[np.ndarray, "batch n"],
        seen: LayerBatch,
    ) -> None:
        if self.cuts is None:  # the whole first half comes before the second
            self.cuts = BandCuts(quantiles(self.sample_peaks[:, : self.half], BAND_QUANTILES))
        band = self.cuts.band_of(where, peaks)
        for index in range(BANDS):
            self.band_counts[where, index] += (band == index).sum(axis=0)
        # Equal values: the pair then orders a band's contexts by their rank in the hash order.
        rows = (np.arange(where.start, where.stop) * BANDS)[None, :] + band
        last_rank = self.bands.ids[rows, -1]
        contexts, columns = np.nonzero(ranks[:, None] < last_rank)
        if len(contexts):
            payload = seen.describe(contexts, columns, self.shape.window, "peak")
            zeros = np.zeros(len(contexts), np.float32)
            self.bands.add(Entries(rows[contexts, columns], zeros, ranks[contexts], payload))

    def dead(self, gated: bool) -> Bool[np.ndarray, " neurons"]:
        """Neurons that never fire, as DESIGN.md's words define it."""
        if gated:
            return np.maximum(np.abs(self.maximum), np.abs(self.minimum)) <= DEAD_GATED
        return self.maximum <= 0


def scan_corpus(
    model: Model,
    corpus: Corpus,
    shape: ScanShape,
    batch_tokens: int,
    reporter: Reporter,
    block_contexts: int = BLOCK_CONTEXTS,
) -> Scan:
    """Run the model over all contexts and measure every neuron."""
    scan = Scan(shape, corpus.source_index)
    lengths = np.asarray(corpus.lengths)
    total = int((lengths.astype(np.int64) - corpus.included_from).sum())
    progress = reporter.stage("Scanning", total, "tokens")
    done = 0
    for plan in plan_batches(lengths, shape.sample, batch_tokens, block_contexts):
        done += _scan_batch(model, corpus, scan, plan)
        progress(done)
    return scan


def _scan_batch(model: Model, corpus: Corpus, scan: Scan, plan: BatchPlan) -> int:
    """One forward pass, measured. Returns the included positions in it."""
    batch = fill_batch(plan, corpus, padding_id=0)

    def measure(layer: int, captured: Captured) -> None:
        scan.add(batch, layer, captured)

    tokens = torch.from_numpy(batch.tokens).to(model.device)
    attention = torch.from_numpy(batch.attention).to(model.device)
    model.capture(tokens, attention, measure)
    return int(batch.included.sum())
