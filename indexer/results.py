"""A finished scan → the records of the store: where arrays over all neurons become rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Int64

from indexer.sample import BANDS, PEAK_QUANTILES, means_by_slot, peak_histogram, quantiles
from indexer.scan import Scan
from indexer.selection import NO_ID, Payload, Selection
from indexer.source_slots import slots_of
from indexer.store.codec import ExampleArrays
from indexer.store.writer import ContextRecord, NeuronRecord
from indexer.together import together

Array = np.ndarray[Any, Any]
Scalar = float | int | bool | None


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


def neuron_records(
    scan: Scan,
    corpus: Corpus,
    gated: bool,
    facts_of: Callable[[int], LayerFacts],
    device: torch.device | None = None,
) -> Iterator[NeuronRecord]:
    """All neurons in order, what a layer's weights say computed when it is their turn.

    Correlations are computed on `device` (default: the CPU).
    """
    facts = _Facts(scan, gated)
    slots = slots_of(corpus.source_index[scan.shape.sample])
    for layer, width in enumerate(scan.shape.widths):
        weights = facts_of(layer)
        first = int(scan.offsets[layer])
        peaks = scan.sample_peaks[first : first + width]
        near = together(peaks, device=device)
        means = means_by_slot(peaks, slots, scan.shape.source_slots)
        for neuron in range(width):
            row = first + neuron
            examples = _examples(scan, row)
            best = examples[0]
            token_ids = corpus.context(int(best.context_ids[0]))
            found = int(near.counts[neuron])
            yield NeuronRecord(
                layer=layer,
                neuron=neuron,
                scalars={
                    **facts.scalars(row),
                    **_weight_scalars(weights, neuron),
                    "peak_token_id": int(token_ids[int(best.peak_positions[0])]),
                    "promoted_token_id": int(weights.arrays["logit_token_ids"][neuron, 0]),
                },
                arrays={
                    **facts.arrays(scan, row),
                    "source_mean_peaks": means[neuron],
                    "together_neurons": first + near.neurons[neuron, :found],
                    "together_values": near.values[neuron, :found],
                    **{name: values[neuron] for name, values in weights.arrays.items()},
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
        some.payload.context_ids[_slots(some, 0, some.rows)]
        for some in (scan.bottom, scan.bands, scan.by_source)
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

    def scalars(self, row: int) -> dict[str, Scalar]:
        """One neuron's numbers as plain Python values; NaN becomes None."""
        return {name: _plain(column[row]) for name, column in self._columns.items()}

    def arrays(self, scan: Scan, row: int) -> dict[str, Array]:
        """One neuron's arrays that need no other neuron."""
        edges, counts = scan.histogram.shown(row)
        peak_range, peak_counts = peak_histogram(scan.sample_peaks[row])
        arrays: dict[str, Array] = {
            "peak_quantiles": self.peak_quantiles[row],
            "histogram_range": edges[[0, 1]] - [0, edges[0]],
            "histogram_counts": counts.astype(np.int32),
            "peak_histogram_range": peak_range,
            "peak_histogram_counts": peak_counts,
            "band_cuts": self.band_cuts[row],
            "band_counts": scan.band_counts[row],
        }
        return arrays if scan.signs is None else arrays | {"sign_counts": scan.signs.counts[row]}


def _weight_scalars(weights: LayerFacts, neuron: int) -> dict[str, Scalar]:
    """A neuron's numbers from the weights; effects that never vary have a kurtosis of −inf."""
    values = {name: weights.scalars.get(name) for name in WEIGHT_SCALARS}
    plain = {name: None if v is None else _plain(v[neuron]) for name, v in values.items()}
    kurtosis = plain["effect_kurtosis"]
    return plain | {"effect_kurtosis": -np.inf if kurtosis is None else kurtosis}


def _plain(value: Any) -> Scalar:
    plain: float | int | bool = value.item()
    return None if plain != plain else plain


def _examples(scan: Scan, row: int) -> tuple[ExampleArrays, ...]:
    """One neuron's examples in the order of `schema.KINDS`."""
    count, slots = len(scan.shape.random_contexts), scan.shape.source_slots
    chosen = np.arange(row * count, (row + 1) * count)
    return (
        _arrays(scan.top.payload, _slots(scan.top, row, row + 1)),
        _arrays(scan.bottom.payload, _slots(scan.bottom, row, row + 1)),
        _arrays(scan.random, chosen),
        _arrays(scan.bands.payload, _slots(scan.bands, row * BANDS, (row + 1) * BANDS)),
        _arrays(scan.by_source.payload, _slots(scan.by_source, row * slots, (row + 1) * slots)),
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
        gates=payload.gates[places],
        linears=payload.linears[places],
        quantized=payload.quantized[places][window < lengths[:, None]],
    )
