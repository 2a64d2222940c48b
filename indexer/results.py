"""A finished scan → the records of the store: where arrays over all neurons become rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int64

from indexer.sample import BANDS, PEAK_QUANTILES, quantiles
from indexer.scan import Scan
from indexer.selection import NO_ID, Payload, Selection
from indexer.store.codec import ExampleArrays
from indexer.store.writer import ContextRecord, NeuronRecord

Array = np.ndarray[Any, Any]


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


class Effects(Protocol):
    """What results need of a layer's logit effects: [neurons, k] arrays, strongest first."""

    @property
    def top_values(self) -> Array: ...
    @property
    def top_ids(self) -> Array: ...
    @property
    def bottom_values(self) -> Array: ...
    @property
    def bottom_ids(self) -> Array: ...


def neuron_records(
    scan: Scan, corpus: Corpus, gated: bool, effects_of: Callable[[int], Effects]
) -> Iterator[NeuronRecord]:
    """All neurons in order, a layer's logit effects computed when it is their turn."""
    facts = _Facts(scan, gated)
    for layer, width in enumerate(scan.shape.widths):
        effects = effects_of(layer)
        for neuron in range(width):
            row = int(scan.offsets[layer]) + neuron
            examples = _examples(scan, row)
            best = examples[0]
            token_ids = corpus.context(int(best.context_ids[0]))
            values = np.stack([effects.top_values[neuron], effects.bottom_values[neuron]])
            ids = np.stack([effects.top_ids[neuron], effects.bottom_ids[neuron]])
            edges, counts = scan.histogram.shown(row)
            yield NeuronRecord(
                layer=layer,
                neuron=neuron,
                scalars={
                    **facts.scalars(row),
                    "peak_token_id": int(token_ids[int(best.peak_positions[0])]),
                    "promoted_token_id": int(ids[0, 0]),
                },
                arrays={
                    "peak_quantiles": facts.peak_quantiles[row],
                    "histogram_range": edges[[0, 1]] - [0, edges[0]],
                    "histogram_counts": counts.astype(np.int32),
                    "band_cuts": facts.band_cuts[row],
                    "band_counts": scan.band_counts[row],
                    "logit_values": values.astype(np.float32),
                    "logit_token_ids": ids.astype(np.int32),
                },
                examples=examples,
            )


def context_records(scan: Scan, corpus: Corpus) -> Iterator[ContextRecord]:
    """All contexts that are an example of some neuron, by id."""
    top_ids = scan.top.ids.ravel()
    rows = np.repeat(np.arange(scan.top.rows), scan.top.k)
    real = top_ids != NO_ID
    order = np.lexsort((rows[real], top_ids[real]))
    top_ids, rows = top_ids[real][order], rows[real][order]
    others = [
        some.payload.context_ids[_slots(some, 0, some.rows)] for some in (scan.bottom, scan.bands)
    ]
    every = np.unique(np.concatenate([top_ids, scan.shape.random_contexts, *others]))
    begins = np.searchsorted(top_ids, every, side="left")
    ends = np.searchsorted(top_ids, every, side="right")
    for context, begin, end in zip(every.tolist(), begins, ends, strict=True):
        yield ContextRecord(
            context_id=context,
            document_index=int(corpus.document_index[context]),
            source_index=int(corpus.source_index[context]),
            included_from=int(corpus.included_from[context]),
            token_ids=corpus.context(context),
            top_neurons=rows[begin:end].astype(np.int32),
        )


class _Facts:
    """Statistics of all neurons at once, read row by row."""

    def __init__(self, scan: Scan, gated: bool) -> None:
        moments = scan.moments
        count = np.maximum(moments.count, 1)
        tenth, above = scan.histogram.tenth_of(scan.maximum.astype(np.float64))
        self._columns: dict[str, Array] = {
            "max": scan.maximum.astype(np.float64),
            "min": scan.minimum.astype(np.float64),
            "mean": moments.mean,
            "std": moments.std(),
            "skewness": moments.skewness(),
            "kurtosis": np.nan_to_num(moments.kurtosis(), nan=-np.inf, neginf=-np.inf),
            "density": moments.positive / count,
            "density_over_tenth": above / count,
            "tenth": tenth,
            "dead": scan.dead(gated),
        }
        self.peak_quantiles = quantiles(scan.sample_peaks, PEAK_QUANTILES)
        no_cuts = np.full((scan.shape.neurons, BANDS - 1), np.nan)
        self.band_cuts = no_cuts if scan.cuts is None else scan.cuts.cuts

    def scalars(self, row: int) -> dict[str, float | int | bool | None]:
        """One neuron's numbers as plain Python values; NaN becomes None."""
        values = {name: column[row].item() for name, column in self._columns.items()}
        return {name: None if value != value else value for name, value in values.items()}


def _examples(scan: Scan, row: int) -> tuple[ExampleArrays, ...]:
    """One neuron's examples in the order of `schema.KINDS`."""
    count = len(scan.shape.random_contexts)
    chosen = np.arange(row * count, (row + 1) * count)
    return (
        _arrays(scan.top.payload, _slots(scan.top, row, row + 1)),
        _arrays(scan.bottom.payload, _slots(scan.bottom, row, row + 1)),
        _arrays(scan.random, chosen),
        _arrays(scan.bands.payload, _slots(scan.bands, row * BANDS, (row + 1) * BANDS)),
    )


def _slots(selection: Selection, first: int, end: int) -> Int64[np.ndarray, " m"]:
    """Where the entries of rows first…end lie in the payload, best first, row by row."""
    real = selection.ids[first:end] != NO_ID
    slots: Int64[np.ndarray, " m"] = selection.slots[first:end][real]
    return slots


def _arrays(payload: Payload, places: Int64[np.ndarray, " m"]) -> ExampleArrays:
    lengths = payload.lengths[places]
    window = np.arange(payload.quantized.shape[1])
    return ExampleArrays(
        peaks=payload.peaks[places],
        peak_positions=payload.peak_positions[places],
        troughs=payload.troughs[places],
        trough_positions=payload.trough_positions[places],
        context_ids=payload.context_ids[places],
        starts=payload.starts[places],
        lengths=lengths,
        scales=payload.scales[places],
        quantized=payload.quantized[places][window < lengths[:, None]],
    )
