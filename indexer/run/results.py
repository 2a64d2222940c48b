"""A finished scan → the records of the store: where arrays over all neurons become blocks of rows.

Everything is done for a block of neurons at once, and a block is small: beside the scan, which is
nearly all the memory there is, nothing as large as a part of it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Int64

from indexer.measure.peaks import (
    BANDS,
    PEAK_QUANTILES,
    kept_peaks,
    means_by_slot,
    peak_histograms,
    sorted_quantiles,
)
from indexer.measure.selection import NO_ID, Payload, Selection
from indexer.measure.sources import slots_of
from indexer.measure.together import Together, together
from indexer.scan.sample import SampleScan
from indexer.scan.shape import ScanShape
from indexer.scan.state import Scan
from indexer.store.packing.layout import Columns, Windows, ranges
from indexer.store.writing.ahead import ahead
from indexer.store.writing.records import ContextRecord, NeuronBlock

Array = np.ndarray[Any, Any]

_BLOCK_BYTES = 1 << 22
"""Examples in a block, about: some tens of such blocks are in memory while a run is written."""


class Corpus(Protocol):
    """What results need of a prepared corpus."""

    @property
    def document_index(self) -> Array: ...
    @property
    def source_index(self) -> Array: ...
    @property
    def included_from(self) -> Array: ...
    @property
    def sources(self) -> tuple[str, ...]: ...
    def context(self, context_id: int) -> Array:
        """Token ids of one context."""
        ...


class LayerFacts(Protocol):
    """What results need of what a layer's weights alone say."""

    @property
    def scalars(self) -> dict[str, Array]:
        """Columns of `neurons` by name: [neurons] each, NaN where a number is not known."""
        ...

    @property
    def arrays(self) -> dict[str, Array]:
        """Arrays of codec.NEURON_ARRAYS by name, [neurons, m] each; `logit_token_ids` is there."""
        ...


WEIGHT_SCALARS = ("effect_kurtosis", "in_out_cosine", "gate_out_cosine")


class Results:
    """What scans have found, as the store takes it: neurons first, scan by scan, then contexts."""

    def __init__(
        self,
        corpus: Corpus,
        gated: bool,
        facts_of: Callable[[int], LayerFacts],
        device: torch.device | None = None,
    ) -> None:
        """`facts_of` tells what a layer's weights say, asked when it is the layer's turn.
        Correlations are computed on `device` (default: the CPU)."""
        self._corpus = corpus
        self._gated = gated
        self._facts_of = facts_of
        self._device = device
        self._used = np.zeros(len(corpus.source_index), np.bool_)
        """Which contexts are an example of some neuron."""

    def neurons(self, scan: Scan) -> Iterator[NeuronBlock]:
        """All neurons of a scan in order. Scans come in the order of their layers.

        Raises ValueError where the scan has no sample.
        """
        sample = _sample(scan)
        shape = scan.shape
        self.note(scan)
        measured = _Measured(scan, sample, self._gated)
        step = max(1, _BLOCK_BYTES // _example_bytes(shape))
        # A layer's correlations take as long as some tens of its blocks: those wait for none.
        layers = ahead(self._layers(scan, sample), 1)
        for width, (layer, weights, near) in zip(shape.widths, layers, strict=True):
            for begin in range(0, width, step):
                mine = slice(begin, min(begin + step, width))
                yield self._block(scan, measured, layer, mine, weights, near)

    def _layers(self, scan: Scan, sample: SampleScan) -> Iterator[tuple[int, LayerFacts, Together]]:
        """What is known of each layer as a whole."""
        for index, width in enumerate(scan.shape.widths):
            layer, first = scan.shape.first_layer + index, int(scan.offsets[index])
            near = together(sample.peaks[first : first + width], device=self._device)
            yield layer, self._facts_of(layer), near

    def contexts(self) -> Iterator[ContextRecord]:
        """All contexts that are an example of some neuron of the scans so far, by id."""
        corpus = self._corpus
        every = np.flatnonzero(self._used)
        places = [
            values[every].tolist()
            for values in (corpus.document_index, corpus.source_index, corpus.included_from)
        ]
        for context, document, source, first in zip(every.tolist(), *places, strict=True):
            yield ContextRecord(
                context_id=context,
                document_index=document,
                source_index=source,
                included_from=first,
                token_ids=corpus.context(context),
            )

    def note(self, scan: Scan) -> None:
        """Remember the contexts of a scan's examples, for `contexts`; `neurons` does so itself."""
        self._used[scan.shape.random_contexts] = True
        for some in (scan.top, scan.bottom, _sample(scan).bands, scan.by_source):
            for first in range(0, some.rows, 1 << 16):
                slots = _slots(some, first, first + (1 << 16))
                self._used[some.payload.context_ids[slots]] = True

    def _block(
        self,
        scan: Scan,
        measured: _Measured,
        layer: int,
        mine: slice,
        weights: LayerFacts,
        near: Together,
    ) -> NeuronBlock:
        """Some neurons of a layer."""
        shape, sample = scan.shape, _sample(scan)
        first = int(scan.offsets[layer - shape.first_layer])
        where = slice(first + mine.start, first + mine.stop)
        counts, examples = _examples(scan, sample, where)
        best = np.cumsum(counts.sum(axis=1)) - counts.sum(axis=1)
        peak_token_ids = [
            self._corpus.context(context_id)[position]
            for context_id, position in zip(
                examples.context_ids[best].tolist(),
                examples.peak_positions[best].tolist(),
                strict=True,
            )
        ]
        scalars, arrays = measured.facts(where)
        promoted = weights.arrays["logit_token_ids"][mine, 0]
        slots = slots_of(self._corpus.source_index[shape.sample])
        means = means_by_slot(sample.peaks[where], slots, shape.source_slots)
        flat = shape.first_neuron + first
        return NeuronBlock(
            layer=layer,
            first=mine.start,
            scalars={
                **scalars,
                **_weight_scalars(weights, mine),
                "peak_token_id": np.array(peak_token_ids, np.int64),
                "promoted_token_id": np.asarray(promoted, np.int64),
                "top_source": self._top_source(counts, examples),
            },
            arrays={
                **arrays,
                "source_mean_peaks": Columns(means),
                "sample_peaks": Columns(
                    kept_peaks(sample.peaks[where], scalars["min"], scalars["max"])
                ),
                "together_neurons": Columns(flat + near.neurons[mine], near.counts[mine]),
                "together_values": Columns(near.values[mine], near.counts[mine]),
                **{name: Columns(values[mine]) for name, values in weights.arrays.items()},
            },
            counts=counts,
            examples=examples,
        )

    def _top_source(
        self, counts: Int64[np.ndarray, "neurons kinds"], examples: Windows
    ) -> Int64[np.ndarray, " neurons"]:
        """The source that more than half of each neuron's top examples are from; −1: none is."""
        each = counts[:, 0]
        begins = np.cumsum(counts.sum(axis=1)) - counts.sum(axis=1)
        sources = self._corpus.source_index[examples.context_ids[ranges(begins, each)]]
        owner = np.repeat(np.arange(len(each)), each)
        kinds, votes = np.unique(owner * len(self._corpus.sources) + sources, return_counts=True)
        owners, source = np.divmod(kinds, len(self._corpus.sources))
        won = 2 * votes > each[owners]  # at most once for a neuron
        found = np.full(len(each), -1)
        found[owners[won]] = source[won]
        return found


class _Measured:
    """What a scan measured: of all neurons what is one number each, the rest of some when asked."""

    def __init__(self, scan: Scan, sample: SampleScan, gated: bool) -> None:
        self._sample = sample
        moments = sample.moments
        self._columns: dict[str, Array] = {
            "max": scan.maximum.astype(np.float64),
            "min": scan.minimum.astype(np.float64),
            "mean": moments.mean,
            "std": moments.std(),
            "skewness": moments.skewness(),
            "kurtosis": np.nan_to_num(moments.kurtosis(), nan=-np.inf, neginf=-np.inf),
            "density": moments.positive / np.maximum(moments.count, 1),
            "dead": scan.dead(gated),
        }
        self._cuts = np.full((scan.shape.neurons, BANDS - 1), np.nan)
        if sample.cuts is not None:
            self._cuts = sample.cuts.cuts

    def facts(self, where: slice) -> tuple[dict[str, Array], dict[str, Columns]]:
        """Scalars by column, small arrays by name, where no other neuron has a part in them."""
        sample = self._sample
        scalars = {name: column[where] for name, column in self._columns.items()}
        tenth, above = sample.histogram.tenth_of(where, scalars["max"])
        scalars["density_over_tenth"] = above / np.maximum(sample.moments.count[where], 1)
        scalars["tenth"] = tenth
        ordered = np.sort(sample.peaks[where], axis=1)
        ranges, bins, lengths = sample.histogram.shown(where)
        peak_ranges, peak_bins, peak_lengths = peak_histograms(ordered)
        arrays = {
            "peak_quantiles": Columns(sorted_quantiles(ordered, PEAK_QUANTILES)),
            "histogram_range": Columns(ranges),
            "histogram_counts": Columns(bins, lengths),
            "peak_histogram_range": Columns(peak_ranges),
            "peak_histogram_counts": Columns(peak_bins, peak_lengths),
            "band_cuts": Columns(self._cuts[where]),
            "band_counts": Columns(sample.band_counts[where]),
        }
        if sample.signs is not None:
            arrays["sign_counts"] = Columns(sample.signs.counts[where])
        return scalars, arrays


def _weight_scalars(weights: LayerFacts, mine: slice) -> dict[str, Array]:
    """Numbers from the weights; effects that never vary have a kurtosis of −inf."""
    unknown = np.full(mine.stop - mine.start, np.nan)
    scalars = {
        name: weights.scalars[name][mine] if name in weights.scalars else unknown
        for name in WEIGHT_SCALARS
    }
    kurtosis = scalars["effect_kurtosis"]
    return scalars | {"effect_kurtosis": np.where(np.isnan(kurtosis), -np.inf, kurtosis)}


def _sample(scan: Scan) -> SampleScan:
    if scan.sample is None:
        raise ValueError("a scan without the sample has no results of its own: merge it first")
    return scan.sample


def _example_bytes(shape: ScanShape) -> int:
    """What the examples of one neuron take in a block, about."""
    return (shape.examples + shape.source_examples) * (shape.window + 40)


def _examples(
    scan: Scan, sample: SampleScan, where: slice
) -> tuple[Int64[np.ndarray, "neurons kinds"], Windows]:
    """Examples of some neurons, and how many there are of each kind, as `NeuronBlock` has them."""
    neurons = where.stop - where.start
    each = len(scan.shape.random_contexts)
    random = np.arange(where.start * each, where.stop * each)
    parts = [
        _chosen(scan.top, where, 1),
        _chosen(scan.bottom, where, 1),
        (sample.random, random, np.full(neurons, each)),
        _chosen(sample.bands, where, BANDS),
        _chosen(scan.by_source, where, scan.shape.source_slots),
    ]
    counts = np.stack([count for _, _, count in parts], axis=1).astype(np.int64)
    ends = np.cumsum(counts).reshape(counts.shape)
    places = [
        ranges(ends[:, kind] - counts[:, kind], counts[:, kind]) for kind in range(len(parts))
    ]
    total = int(counts.sum())
    gathered: dict[str, Array] = {}
    for name, values in parts[0][0].named().items():
        gathered[name] = np.empty((total, *values.shape[1:]), values.dtype)
        for (payload, slots, _), at in zip(parts, places, strict=True):
            gathered[name][at] = payload.named()[name][slots]
    return counts, Windows(**gathered)


def _chosen(
    selection: Selection, where: slice, each: int
) -> tuple[Payload, Int64[np.ndarray, " m"], Int64[np.ndarray, " neurons"]]:
    """Where the entries of some neurons lie in the payload, and how many each neuron has, of a
    selection with `each` rows a neuron."""
    first, end = where.start * each, where.stop * each
    real = selection.ids[first:end] != NO_ID
    counts = real.reshape(where.stop - where.start, -1).sum(axis=1)
    return selection.payload, _slots(selection, first, end), counts


def _slots(selection: Selection, first: int, end: int) -> Int64[np.ndarray, " m"]:
    """Where the entries of rows first…end lie in the payload, best first, row by row."""
    real = selection.ids[first:end] != NO_ID
    slots: Int64[np.ndarray, " m"] = selection.slots[first:end][real]
    return slots
