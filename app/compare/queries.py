"""Reads two neurons: their pages, the top examples they share, the correlation of their peaks."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from app.compare.schemas import Comparison, Correlation, SharedContext
from app.examples.common import common_contexts, compared_ids
from app.examples.queries import Context, contexts_of
from app.neurons.queries import neuron, read_arrays
from app.neurons.schemas import NeuronPage
from app.reading.columns import columns, finite
from app.reading.store import Reading, Store
from app.web.address import NeuronPlace
from indexer.store import schema
from indexer.store.packing.codec import peak_unit
from indexer.store.units import HEADS


def compare(store: Store, a: NeuronPlace, b: NeuronPlace, reach: int | None = None) -> Comparison:
    """The comparison of two neurons; `reach` as in `neurons.queries.neuron`. Raises NotFound."""
    with store.connect() as connection:
        readings = [store.open(connection, place.name, place.run) for place in (a, b)]
        pages = [
            neuron(reading, place.layer, place.neuron, reach)
            for reading, place in zip(readings, (a, b), strict=True)
        ]
        sides = tuple(zip(readings, pages, strict=True))
        return Comparison(
            a=pages[0],
            b=pages[1],
            scale=max(page.scale for page in pages),
            low=min(min(_bounds(page)) for page in pages),
            high=max(max(_bounds(page)) for page in pages),
            scores=_scores(*sides),
            shared=_shared(*sides),
            correlation=_correlation(*sides),
        )


def _scores(
    *sides: tuple[Reading, NeuronPage],
) -> dict[str, tuple[float | None, float | None]] | None:
    """Both heads' scores by name; None unless both are heads. Older runs lack the later scores."""
    if any(reading.run.set_name != HEADS for reading, _ in sides):
        return None
    of_sides = []
    for reading, page in sides:
        known = columns(reading.connection, reading.run, schema.HEAD_COLUMNS, [page.layer])
        of_sides.append({name: finite(values[page.neuron]) for name, values in known.items()})
    a, b = of_sides
    return {name: (a[name], b[name]) for name in schema.HEAD_COLUMNS}


def _bounds(page: NeuronPage) -> list[float]:
    """A neuron's extremes, and the first and last edges of both its histograms."""
    histograms = page.histogram, page.peak_histogram
    edges = [histogram.edges[end] for histogram in histograms for end in (0, -1)]
    return [page.stats.min, page.stats.max, *edges]


def _shared(
    a: tuple[Reading, NeuronPage], b: tuple[Reading, NeuronPage]
) -> list[SharedContext] | None:
    """Contexts that are top examples of both neurons; None if corpus or tokenizer differ.

    Contexts of two runs are compared by their tokens, since the same text can have another id.
    """
    (reading_a, page_a), (reading_b, page_b) = a, b
    run_a, run_b = reading_a.run, reading_b.run
    if (run_a.corpus, run_a.identity) != (run_b.corpus, run_b.identity):
        return None
    ids_a, ids_b = _tops(page_a), _tops(page_b)
    if run_a.id == run_b.id:
        pairs = [(context_id, context_id) for context_id in ids_a if context_id in ids_b]
    else:
        tokens_a = _by_tokens(contexts_of(reading_a.connection, run_a, ids_a))
        tokens_b = _by_tokens(contexts_of(reading_b.connection, run_b, ids_b))
        pairs = [
            (in_a, tokens_b[tokens]) for tokens, in_a in tokens_a.items() if tokens in tokens_b
        ]
    shared = [
        SharedContext(rank_a=ids_a[in_a], rank_b=ids_b[in_b], context_id_a=in_a, context_id_b=in_b)
        for in_a, in_b in pairs
    ]
    return sorted(shared, key=lambda context: context.rank_a)


def _correlation(
    a: tuple[Reading, NeuronPage], b: tuple[Reading, NeuronPage]
) -> Correlation | None:
    """Pearson's correlation of their peaks; None if the samples have too few common contexts."""
    common = common_contexts(a[0], b[0])
    kept = _sample_peaks(*a)
    peaks_a, peaks_b = common.peaks(kept, _sample_peaks(*b))
    if len(peaks_a) < common.fewest:
        return None
    ids = np.array(compared_ids(a[0]), object)
    value = None
    if peaks_a.min() < peaks_a.max() and peaks_b.min() < peaks_b.max():
        value = float(np.corrcoef(peaks_a, peaks_b)[0, 1].clip(-1, 1))
    return Correlation(
        contexts=len(peaks_a),
        value=value,
        a=peaks_a.tolist(),
        b=peaks_b.tolist(),
        context_ids=common.of_a(ids).tolist() if len(ids) == len(kept) else [],
    )


def _sample_peaks(reading: Reading, page: NeuronPage) -> Float64[np.ndarray, " contexts"]:
    """A neuron's peaks in the sample's first contexts, with the precision of float16."""
    key = schema.neuron_key(reading.run.id, reading.places.index(page.layer, page.neuron))
    stored = read_arrays(reading, key)["sample_peaks"].astype(np.float64)
    peaks: Float64[np.ndarray, " contexts"]
    peaks = stored * peak_unit(np.array([page.stats.min]), np.array([page.stats.max]))
    return peaks


def _tops(page: NeuronPage) -> dict[int, int]:
    """The ranks of a neuron's top examples, by context id."""
    return {example.context_id: example.rank for example in page.examples.top}


def _by_tokens(contexts: dict[int, Context]) -> dict[tuple[int, bytes], int]:
    """Context ids by the contexts' tokens."""
    return {
        (context.included_from, context.token_ids.tobytes()): context_id
        for context_id, context in contexts.items()
    }
