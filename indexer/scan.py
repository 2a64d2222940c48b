"""The state of a scan: what every batch's activations are measured into, layer by layer.

Extremes are taken over everything; the rest over the sample, whose contexts come first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from torch import Tensor

from indexer.batches import BLOCK_CONTEXTS, Batch, BatchPlan, Contexts, fill_batch, plan_batches
from indexer.errors import NeurariumError
from indexer.examples import Centre, describe
from indexer.reporter import Reporter
from indexer.sample import BAND_QUANTILES, BANDS, BandCuts, Histogram, Moments, quantiles
from indexer.selection import Entries, Payload, Selection

RANDOM_EXAMPLES = 15
BAND_EXAMPLES = 3
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
        """Examples of a neuron, of all kinds."""
        return self.top_k + self.bottom_k + len(self.random_contexts) + BANDS * BAND_EXAMPLES

    def bytes_held(self) -> int:
        """Memory the scan's state takes, in bytes, beyond the model and its forward pass."""
        peaks = 4 * len(self.sample)
        sums = 4 * 256 + 8 * 16
        return Selection.bytes_for(self.neurons, self.examples, self.window) + self.neurons * (
            peaks + sums
        )


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
        on_layer: Callable[[int, Tensor], None],
    ) -> None:
        """One forward pass that hands over each layer's activations, [batch, pos, neurons]."""
        ...


class Scan:
    """Everything measured so far. Feed it each batch's layers with `add`."""

    def __init__(self, shape: ScanShape) -> None:
        self.shape = shape
        neurons, window = shape.neurons, shape.window
        self.offsets = np.concatenate([[0], np.cumsum(shape.widths)])
        self.top = Selection(neurons, shape.top_k, window)
        self.bottom = Selection(neurons, shape.bottom_k, window)
        self.bands = Selection(neurons * BANDS, BAND_EXAMPLES, window)
        self.random = Payload.empty(neurons * len(shape.random_contexts), window)
        self.maximum = np.full(neurons, -np.inf, np.float32)
        self.minimum = np.full(neurons, np.inf, np.float32)
        self.moments = Moments(neurons)
        self.histogram = Histogram(neurons)
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

    def add(self, batch: Batch, layer: int, activations: Float[Tensor, "batch pos n"]) -> None:
        """Measure one layer's activations of one batch. Raises NeurariumError on NaN or ±inf."""
        where = slice(int(self.offsets[layer]), int(self.offsets[layer + 1]))
        seen = _LayerBatch(batch, activations)
        peaks, troughs = seen.extremes()
        if not (np.isfinite(peaks).all() and np.isfinite(troughs).all()):
            raise NeurariumError(
                f"The model gave a value that is not finite in layer {layer} "
                f"({str(activations.dtype).removeprefix('torch.')}): run again with "
                "--dtype float32, or check the model's weights."
            )
        np.maximum(self.maximum[where], peaks.max(axis=0), out=self.maximum[where])
        np.minimum(self.minimum[where], troughs.min(axis=0), out=self.minimum[where])
        ids = batch.context_ids
        self._select(self.top, where.start, peaks, ids, seen, "peak")
        self._select(self.bottom, where.start, -troughs, ids, seen, "trough")
        if batch.part != "rest":
            self._add_sample(where, peaks, troughs, seen)

    def _select(
        self,
        selection: Selection,
        first_row: int,
        values: Float32[np.ndarray, "batch n"],
        ids: Int64[np.ndarray, " batch"],
        seen: _LayerBatch,
        centre: Centre,
    ) -> None:
        contexts, columns = np.nonzero(selection.entering(first_row, values, ids))
        if len(contexts):
            payload = seen.describe(contexts, columns, self.shape.window, centre)
            entries = Entries(
                columns + first_row, values[contexts, columns], ids[contexts], payload
            )
            selection.add(entries)

    def _add_sample(
        self,
        where: slice,
        peaks: Float32[np.ndarray, "batch n"],
        troughs: Float32[np.ndarray, "batch n"],
        seen: _LayerBatch,
    ) -> None:
        batch = seen.batch
        ranks = np.array([self._rank[int(context)] for context in batch.context_ids], np.int64)
        self.sample_peaks[where, ranks] = peaks.T
        included = seen.included_activations()
        self.moments.add(where.start, included)
        self.histogram.add(where.start, included, troughs.min(axis=0), peaks.max(axis=0))
        if batch.part == "second_half":
            self._add_random(where, ranks, seen)
            if self.half:
                self._add_bands(where, ranks, peaks, seen)

    def _add_random(
        self, where: slice, ranks: Int64[np.ndarray, " batch"], seen: _LayerBatch
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
        seen: _LayerBatch,
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
    corpus: Contexts,
    shape: ScanShape,
    batch_tokens: int,
    reporter: Reporter,
    block_contexts: int = BLOCK_CONTEXTS,
) -> Scan:
    """Run the model over all contexts and measure every neuron."""
    scan = Scan(shape)
    lengths = np.asarray(corpus.lengths)
    total = int((lengths.astype(np.int64) - corpus.included_from).sum())
    progress = reporter.stage("Scanning", total, "tokens")
    done = 0
    for plan in plan_batches(lengths, shape.sample, batch_tokens, block_contexts):
        done += _scan_batch(model, corpus, scan, plan)
        progress(done)
    return scan


def _scan_batch(model: Model, corpus: Contexts, scan: Scan, plan: BatchPlan) -> int:
    """One forward pass, measured. Returns the included positions in it."""
    batch = fill_batch(plan, corpus, padding_id=0)

    def measure(layer: int, activations: Float[Tensor, "batch pos n"]) -> None:
        scan.add(batch, layer, activations)

    tokens = torch.from_numpy(batch.tokens).to(model.device)
    attention = torch.from_numpy(batch.attention).to(model.device)
    model.capture(tokens, attention, measure)
    return int(batch.included.sum())


class _LayerBatch:
    """One layer's activations of one batch, with the few readings a scan needs of them."""

    def __init__(self, batch: Batch, activations: Float[Tensor, "batch pos n"]) -> None:
        self.batch = batch
        self.activations = activations
        self.device = activations.device
        self.first = _uniform_start(batch.included)

    def extremes(self) -> tuple[Float32[np.ndarray, "batch n"], Float32[np.ndarray, "batch n"]]:
        """Peaks and troughs over included positions, in float32; −0 counts as 0."""
        if self.first is not None:
            counted = self.activations[:, self.first :]
            peaks, troughs = counted.amax(dim=1), counted.amin(dim=1)
        else:
            left_out = ~torch.from_numpy(self.batch.included).to(self.device)[:, :, None]
            peaks = self.activations.masked_fill(left_out, -torch.inf).amax(dim=1)
            troughs = self.activations.masked_fill(left_out, torch.inf).amin(dim=1)
        return _numpy(peaks) + np.float32(0), _numpy(troughs) + np.float32(0)

    def included_activations(self) -> Float[Tensor, "positions n"]:
        """Activations at all included positions of the batch."""
        if self.first is not None:
            return self.activations[:, self.first :].flatten(0, 1)
        included = torch.from_numpy(self.batch.included).to(self.device)
        return self.activations[included]

    def describe(
        self,
        contexts: Int64[np.ndarray, " m"],
        columns: Int64[np.ndarray, " m"],
        window: int,
        centre: Centre,
    ) -> Payload:
        """Examples of m (context of the batch, neuron of the layer) pairs."""
        rows = torch.from_numpy(contexts).to(self.device)
        neurons = torch.from_numpy(columns).to(self.device)
        gathered = _numpy(self.activations[rows, :, neurons]) + np.float32(0)
        lengths = self.batch.attention.sum(axis=1, dtype=np.int64)
        return describe(
            gathered,
            self.batch.included[contexts],
            lengths[contexts],
            self.batch.context_ids[contexts],
            window,
            centre,
        )


def _uniform_start(included: Bool[np.ndarray, "batch pos"]) -> int | None:
    """The first included position, where it is the same for all and nothing is padded."""
    first = int(included[0].argmax())
    return first if included[:, first:].all() and not included[:, :first].any() else None


def _numpy(values: Float[Tensor, "..."]) -> Float32[np.ndarray, "..."]:
    array: Float32[np.ndarray, "..."] = values.float().cpu().numpy()
    return array
