"""From a finished scan to the records of the store: arrays over all neurons become blocks of rows.

Everything is computed for a small block of neurons at a time, since the scan may fill nearly all of
the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Int64

from indexer.measure.peaks import (
    PEAK_QUANTILES,
    kept_peaks,
    means_by_slot,
    peak_histograms,
    sorted_quantiles,
    source_peak_histograms,
)
from indexer.measure.selection import NO_ID, Payload, Selection
from indexer.measure.sources import slots_of
from indexer.measure.together import Together, together
from indexer.run.firing import firing_bands, firing_examples, firing_facts
from indexer.scan.sample import SampleScan
from indexer.scan.shape import ScanShape
from indexer.scan.state import Scan
from indexer.store.bands import BANDS
from indexer.store.packing.layout import Columns, Windows, ranges
from indexer.store.writing.ahead import ahead
from indexer.store.writing.records import ContextRecord, NeuronBlock

Array = np.ndarray[Any, Any]

_BLOCK_BYTES = 1 << 22
"""Bytes of examples in a block, roughly. Tens of blocks are in memory while a run is written."""


class Corpus(Protocol):
    """What results need of a prepared corpus."""

    # Each [contexts].
    @property
    def document_index(self) -> Array: ...
    @property
    def source_index(self) -> Array: ...
    @property
    def included_from(self) -> Array: ...
    @property
    def sources(self) -> tuple[str, ...]: ...
    def context(self, context_id: int) -> Array:
        """Token ids of one context [pos]."""
        ...


class LayerFacts(Protocol):
    """What results need of the facts from a layer's weights."""

    @property
    def scalars(self) -> dict[str, Array]:
        """Columns of the table of neurons by name: [neurons] each, NaN where unknown."""
        ...

    @property
    def arrays(self) -> dict[str, Array]:
        """Arrays of codec.NEURON_ARRAYS by name, [neurons, m] each."""
        ...


IsDead = Callable[[Array, Array], Array]
"""Which neurons are dead, bool, from their maxima and minima: see `UnitSet.dead`."""

PeaksOf = Callable[[int], Array]
"""The sample's peaks [units, s] of all units of a layer that is scanned in several slices."""

WEIGHT_SCALARS = ("effect_kurtosis", "in_out_cosine", "gate_out_cosine")


class Results:
    """What scans measured, as records of the store: neurons first, scan by scan, then contexts."""

    def __init__(
        self,
        corpus: Corpus,
        is_dead: IsDead,
        facts_of: Callable[[int], LayerFacts],
        device: torch.device | None = None,
        peaks_of: PeaksOf | None = None,
    ) -> None:
        """`facts_of` gives the facts from a layer's weights, `peaks_of` the peaks of a cut layer:
        both are called once per layer, in order. Correlations are computed on `device` (default:
        the CPU)."""
        self._corpus = corpus
        self._is_dead = is_dead
        self._facts_of = facts_of
        self._device = device
        self._peaks_of = peaks_of
        self._cut: tuple[int, LayerFacts, Together] | None = None
        """What `_of_cut` computed last: the next slice of the same layer needs it too."""
        self._used = np.zeros(len(corpus.source_index), np.bool_)
        """Which contexts are an example of a neuron."""

    def neurons(self, scan: Scan) -> Iterator[NeuronBlock]:
        """All neurons of a scan in order. Call it for scans in the order of their layers.

        Raises ValueError if the scan has no sample.
        """
        sample = _sample(scan)
        shape = scan.shape
        self._note_contexts(scan, sample)
        measured = _Measured(scan, sample, self._is_dead)
        step = max(1, _BLOCK_BYTES // _example_bytes(shape))
        # A layer's correlations take as long as tens of its blocks, so they are computed ahead.
        layers = ahead(self._layers(scan, sample), 1)
        for layer, weights, near in layers:
            width = shape.widths[layer - shape.first_layer]
            for begin in range(0, width, step):
                chunk = slice(begin, min(begin + step, width))
                yield self._block(scan, measured, layer, chunk, weights, near)

    def _layers(self, scan: Scan, sample: SampleScan) -> Iterator[tuple[int, LayerFacts, Together]]:
        """Each layer's index in the model, the facts from its weights, and its correlations."""
        for index, layer in enumerate(scan.shape.layers):
            if not scan.shape.widths[index]:
                continue
            if scan.shape.cut:
                yield self._of_cut(layer)
                continue
            near = together(sample.peaks[scan.places.layer(index)], device=self._device)
            yield layer, self._facts_of(layer), near

    def _of_cut(self, layer: int) -> tuple[int, LayerFacts, Together]:
        """As `_layers`, for a whole layer of which the scans have slices. Raises ValueError without
        `peaks_of`."""
        if self._cut is None or self._cut[0] != layer:
            if self._peaks_of is None:
                raise ValueError("a slice of a layer has no results without the whole layer's")
            near = together(self._peaks_of(layer), device=self._device)
            self._cut = layer, self._facts_of(layer), near
        return self._cut

    def contexts(self) -> Iterator[ContextRecord]:
        """All contexts that are an example of a neuron of the scans so far, by id."""
        corpus = self._corpus
        used = np.flatnonzero(self._used)
        columns = [
            values[used].tolist()
            for values in (corpus.document_index, corpus.source_index, corpus.included_from)
        ]
        for context, document, source, first in zip(used.tolist(), *columns, strict=True):
            yield ContextRecord(
                context_id=context,
                document_index=document,
                source_index=source,
                included_from=first,
                token_ids=corpus.context(context),
            )

    def use(self, context_ids: Int64[np.ndarray, " n"]) -> None:
        """Let `contexts` give these too."""
        self._used[context_ids] = True

    def _note_contexts(self, scan: Scan, sample: SampleScan) -> None:
        """Mark the contexts of a scan's examples as used."""
        self._used[scan.shape.random_contexts] = True
        for selection in (*scan.selections().values(), sample.bands):
            for first in range(0, selection.rows, 1 << 16):
                slots = _slots(selection, first, first + (1 << 16))
                self._used[selection.payload.context_ids[slots]] = True

    def _block(
        self,
        scan: Scan,
        measured: _Measured,
        layer: int,
        chunk: slice,
        weights: LayerFacts,
        near: Together,
    ) -> NeuronBlock:
        """The neurons `chunk` of a layer, counted from the scan's first."""
        shape, sample = scan.shape, _sample(scan)
        first = scan.places.layer(layer - shape.first_layer).start
        where = slice(first + chunk.start, first + chunk.stop)
        chunk = slice(chunk.start + shape.first_unit, chunk.stop + shape.first_unit)
        scalars, arrays = measured.facts(where)
        counts, examples = _examples(scan, sample, where, arrays["band_cuts"].values)
        promoted = np.full(chunk.stop - chunk.start, np.nan)  # where nothing is known to be written
        if "logit_token_ids" in weights.arrays:
            promoted = weights.arrays["logit_token_ids"][chunk, 0].astype(np.int64)
        slots = slots_of(self._corpus.source_index[shape.sample])
        means = means_by_slot(sample.peaks[where], slots, shape.source_slots)
        by_source = source_peak_histograms(sample.peaks[where], slots, shape.source_slots)
        if scan.firing is not None:  # peaks are of other contexts than the sample's
            by_source = (np.zeros((len(means), 0), np.int32), np.zeros(len(means), np.int64))
        layer_starts = shape.first_neuron + first - shape.first_unit
        return NeuronBlock(
            layer=layer,
            first=chunk.start,
            scalars={
                **scalars,
                **_weight_scalars(weights, chunk),
                "peak_token_id": self._peak_tokens(counts, examples),
                "promoted_token_id": promoted,
                "top_source": self._top_source(counts, examples),
            },
            arrays={
                **arrays,
                "source_mean_peaks": Columns(means),
                "source_peak_counts": Columns(*by_source),
                "sample_peaks": Columns(
                    kept_peaks(sample.peaks[where], scalars["min"], scalars["max"])
                ),
                "together_neurons": Columns(layer_starts + near.neurons[chunk], near.counts[chunk]),
                "together_values": Columns(near.values[chunk], near.counts[chunk]),
                **{name: Columns(values[chunk]) for name, values in weights.arrays.items()},
            },
            counts=counts,
            examples=examples,
        )

    def _peak_tokens(self, counts: Int64[np.ndarray, "neurons kinds"], examples: Windows) -> Array:
        """The token at each neuron's maximum; NaN where no context is an example of it."""
        best = np.cumsum(counts.sum(axis=1)) - counts.sum(axis=1)
        known = counts[:, 0].all()
        tokens = np.zeros(len(counts), np.int64) if known else np.full(len(counts), np.nan)
        for row in np.flatnonzero(counts[:, 0]):
            context = int(examples.context_ids[best[row]])
            tokens[row] = self._corpus.context(context)[int(examples.peak_positions[best[row]])]
        return tokens

    def _top_source(
        self, counts: Int64[np.ndarray, "neurons kinds"], examples: Windows
    ) -> Int64[np.ndarray, " neurons"]:
        """The source of more than half of each neuron's top examples; −1 if there is none."""
        each = counts[:, 0]
        begins = np.cumsum(counts.sum(axis=1)) - counts.sum(axis=1)
        sources = self._corpus.source_index[examples.context_ids[ranges(begins, each)]]
        owner = np.repeat(np.arange(len(each)), each)
        kinds, votes = np.unique(owner * len(self._corpus.sources) + sources, return_counts=True)
        owners, source = np.divmod(kinds, len(self._corpus.sources))
        won = 2 * votes > each[owners]  # true of at most one source
        top = np.full(len(each), -1)
        top[owners[won]] = source[won]
        return top


class _Measured:
    """What a scan measured: numbers of all neurons at once, arrays of a block when asked."""

    def __init__(self, scan: Scan, sample: SampleScan, is_dead: IsDead) -> None:
        self._sample, self._firing = sample, scan.firing
        moments = sample.moments
        self._columns: dict[str, Array] = {
            "max": scan.maximum.astype(np.float64),
            "min": scan.minimum.astype(np.float64),
            "mean": moments.mean,
            "std": moments.std(),
            "skewness": moments.skewness(),
            "kurtosis": np.nan_to_num(moments.kurtosis(), nan=-np.inf, neginf=-np.inf),
            "lookup": np.nan_to_num(sample.lookup.score(), nan=-np.inf),
            "density": moments.positive / np.maximum(moments.count, 1),
            "dead": is_dead(scan.maximum, scan.minimum),
        }
        if scan.firing is not None:
            self._positions = np.repeat(np.maximum(scan.firing.positions, 1), scan.shape.widths)
        self._cuts = np.full((scan.shape.neurons, BANDS - 1), np.nan)
        if sample.cuts is not None:
            self._cuts = sample.cuts.cuts

    def facts(self, where: slice) -> tuple[dict[str, Array], dict[str, Columns]]:
        """Scalars [neurons] by column, and small arrays by name, of a block of neurons."""
        sample = self._sample
        scalars = {name: column[where] for name, column in self._columns.items()}
        if self._firing is not None:
            facts = firing_facts(self._firing, where, scalars["max"], self._positions[where])
            return scalars | facts[0], facts[1]
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


def _weight_scalars(weights: LayerFacts, chunk: slice) -> dict[str, Array]:
    """Scalars [neurons] from the weights, by name; NaN where not known. Where all effects are
    equal, the kurtosis is stored as −inf."""
    unknown = np.full(chunk.stop - chunk.start, np.nan)
    scalars = {
        name: weights.scalars[name][chunk] if name in weights.scalars else unknown
        for name in WEIGHT_SCALARS
    }
    kurtosis = scalars["effect_kurtosis"]
    return scalars | {"effect_kurtosis": np.where(np.isnan(kurtosis), -np.inf, kurtosis)}


def _sample(scan: Scan) -> SampleScan:
    if scan.sample is None:
        raise ValueError("a scan without the sample has no results of its own: merge it first")
    return scan.sample


def _example_bytes(shape: ScanShape) -> int:
    """Bytes of one neuron's examples in a block, roughly."""
    return (shape.examples + shape.source_examples) * (shape.window + 40)


def _examples(
    scan: Scan, sample: SampleScan, where: slice, cuts: Array
) -> tuple[Int64[np.ndarray, "neurons kinds"], Windows]:
    """The counts and examples of a `NeuronBlock`, whose bands are cut at `cuts`."""
    neurons = where.stop - where.start
    each = len(scan.shape.random_contexts)
    random = np.arange(where.start * each, where.stop * each)
    if scan.firing is not None:
        chosen = [
            firing_examples(scan.firing, where),
            firing_bands(scan.firing, where, cuts),
        ]
    else:
        chosen = [
            (sample.random, random, np.full(neurons, each)),
            _chosen(sample.bands, where, BANDS),
        ]
    parts = [
        _chosen(scan.top, where, 1),
        _chosen(scan.bottom, where, 1),
        *chosen,
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
    """The payload of a selection with `each` rows per neuron, the places in it of some neurons'
    entries, and how many entries each neuron has."""
    first, end = where.start * each, where.stop * each
    real = selection.ids[first:end] != NO_ID
    counts = real.reshape(where.stop - where.start, -1).sum(axis=1)
    return selection.payload, _slots(selection, first, end), counts


def _slots(selection: Selection, first: int, end: int) -> Int64[np.ndarray, " m"]:
    """Places in the payload of the entries of rows first…end − 1, best first, row by row."""
    real = selection.ids[first:end] != NO_ID
    slots: Int64[np.ndarray, " m"] = selection.slots[first:end][real]
    return slots
