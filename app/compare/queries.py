"""What two neurons have in common: contexts that are top examples of both, one scale, one axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64
from sqlalchemy import Connection, Row, select

from app.compare.schemas import Comparison, Correlation, SharedContext
from app.examples.queries import Context, contexts_of
from app.neurons.schemas import NeuronPage
from indexer.store import schema
from indexer.store.packing.codec import peak_unit, unpack_arrays


def comparison(
    a: NeuronPage,
    b: NeuronPage,
    shared_contexts: list[SharedContext] | None,
    correlated: Correlation | None,
) -> Comparison:
    """Two neurons' pages as one object."""
    ends = [
        end
        for page in (a, b)
        for end in (
            *(page.stats.min, page.stats.max),
            *(page.histogram.edges[0], page.histogram.edges[-1]),
            *(page.peak_histogram.edges[0], page.peak_histogram.edges[-1]),
        )
    ]
    return Comparison(
        a=a,
        b=b,
        scale=max(a.scale, b.scale),
        low=min(ends),
        high=max(ends),
        shared=shared_contexts,
        correlation=correlated,
    )


def shared(
    connection: Connection, a: tuple[Row[Any], NeuronPage], b: tuple[Row[Any], NeuronPage]
) -> list[SharedContext] | None:
    """Contexts that are top examples of both; None where the runs' corpora or tokenizers differ.

    Told by their tokens, not by their numbers: these differ where the corpus was cut elsewhere.
    """
    (run_a, page_a), (run_b, page_b) = a, b
    if (run_a.corpus, run_a.identity) != (run_b.corpus, run_b.identity):
        return None
    ids_a, ids_b = _tops(page_a), _tops(page_b)
    if run_a.id == run_b.id:
        pairs = [(context_id, context_id) for context_id in ids_a if context_id in ids_b]
    else:
        there = _by_tokens(contexts_of(connection, run_b, ids_b))
        here = _by_tokens(contexts_of(connection, run_a, ids_a))
        pairs = [(context_id, there[ids]) for ids, context_id in here.items() if ids in there]
    found = [
        SharedContext(rank_a=ids_a[one], rank_b=ids_b[other], context_id_a=one, context_id_b=other)
        for one, other in pairs
    ]
    return sorted(found, key=lambda one: one.rank_a)


def correlation(
    connection: Connection, a: tuple[Row[Any], NeuronPage], b: tuple[Row[Any], NeuronPage]
) -> Correlation | None:
    """How their peaks correlate; None where the runs' samples begin with other contexts."""
    run_a, run_b = a[0], b[0]
    if not run_a.sample_identity or run_a.sample_identity != run_b.sample_identity:
        return None
    first, second = (_kept_peaks(connection, run, page) for run, page in (a, b))
    if not len(first) or len(first) != len(second):
        return None
    value = None
    if first.min() < first.max() and second.min() < second.max():
        value = float(np.corrcoef(first, second)[0, 1].clip(-1, 1))
    return Correlation(contexts=len(first), value=value, a=first.tolist(), b=second.tolist())


def _kept_peaks(
    connection: Connection, run: Row[Any], page: NeuronPage
) -> Float64[np.ndarray, " contexts"]:
    key = schema.neuron_key(run.id, sum(run.widths[: page.layer]) + page.neuron)
    table = schema.neuron_arrays
    wanted = select(table.c.packed).where(table.c.neuron_id == key)
    packed = connection.execute(wanted).scalar_one()
    kept = unpack_arrays(bytes(packed))["sample_peaks"].astype(np.float64)
    peaks: Float64[np.ndarray, " contexts"]
    peaks = kept * peak_unit(np.array([page.stats.min]), np.array([page.stats.max]))
    return peaks


def _tops(page: NeuronPage) -> dict[int, int]:
    """The ranks of a neuron's top examples, by context."""
    return {example.context_id: example.rank for example in page.examples.top}


def _by_tokens(contexts: dict[int, Context]) -> dict[tuple[int, bytes], int]:
    return {
        (context.included_from, context.token_ids.tobytes()): context_id
        for context_id, context in contexts.items()
    }
