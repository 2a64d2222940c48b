"""Compares recomputed contexts with all neurons' lists: contexts missing from a list, contexts
listed with a wrong value, and values beyond a neuron's maximum or minimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64
from sqlalchemy import Engine, select

from indexer.corpus.batches import Batch
from indexer.corpus.prepared import PreparedCorpus
from indexer.store import schema
from indexer.store.packing.codec import unpack_token_ids
from indexer.store.packing.postings import unpack_places
from indexer.store.schema import KINDS
from indexer.verify.expected import BOTTOM, SOURCE, TOP
from indexer.verify.firing import compare_firing
from indexer.verify.forward import LayerActivations
from indexer.verify.lists import Comparison, ExtremeLists
from indexer.verify.report import SMALL, Finding

_CHECK = "contexts: tokens, document, neurons"
_CHUNK = 500  # contexts read at once

Array = np.ndarray[Any, Any]


def compare_layer(
    comparison: Comparison, batch: Batch, layer: int, layer_acts: LayerActivations
) -> None:
    """Compare one layer of a batch with the lists of all its neurons."""
    lowest, highest = layer_acts.lowest, layer_acts.highest
    peaks = _Between(*(_over(np.max, limit, batch) for limit in (lowest, highest)))
    troughs = _Between(*(-_over(np.min, limit, batch) for limit in (highest, lowest)))
    largest = np.maximum(np.abs(peaks.high), np.abs(troughs.high))
    scale = np.maximum(largest, np.float32(SMALL))
    first = int(comparison.run.offsets[layer])
    flats = first + np.arange(peaks.low.shape[1])
    _limits(comparison, batch, flats, peaks.low, -troughs.low, scale)
    lists, slots = comparison.lists, comparison.expected.source_slots
    every = np.broadcast_to(flats, peaks.low.shape)  # one row per neuron, whatever the context
    _lists(comparison, lists.top, TOP, batch, every, peaks, scale)
    _lists(comparison, lists.bottom, BOTTOM, batch, every, troughs, scale)
    if slots:
        rows = flats[None, :] * slots + comparison.expected.slots[batch.context_ids][:, None]
        _lists(comparison, lists.source, SOURCE, batch, rows, peaks, scale)
    if lists.firing is not None:
        compare_firing(
            *(comparison.run, lists.firing, comparison.findings, batch, layer, lowest, highest)
        )
    if lists.histograms is not None:
        lists.histograms.add(first, batch, lowest, highest)


@dataclass(frozen=True)
class _Between:
    """Values, larger ones better, as far as rounding leaves them known."""

    low: Float32[np.ndarray, "batch n"]
    high: Float32[np.ndarray, "batch n"]


def _over(
    extreme: Callable[..., Array], acts: Float32[np.ndarray, "batch pos n"], batch: Batch
) -> Float32[np.ndarray, "batch n"]:
    """The extreme of each context's included positions."""
    counted = zip(acts, batch.included, strict=True)
    return np.stack([extreme(row[included], axis=0) for row, included in counted])


def _limits(
    comparison: Comparison,
    batch: Batch,
    flats: Int64[np.ndarray, " n"],
    peaks: Float32[np.ndarray, "batch n"],
    troughs: Float32[np.ndarray, "batch n"],
    scale: Float32[np.ndarray, "batch n"],
) -> None:
    """Check that no context exceeds a neuron's maximum or minimum."""
    for name, values, limit, sign in (
        ("maximum", peaks, comparison.lists.maximum[flats], 1),
        ("minimum", troughs, comparison.lists.minimum[flats], -1),
    ):
        beyond = np.maximum(sign * (values - limit), 0) / scale
        bound = comparison.bounds.value
        wrong = comparison.findings.within("beyond maximum or minimum", bound, beyond)
        limits = np.broadcast_to(limit, values.shape)
        problem = f"goes beyond the {name}"
        _add_findings(comparison, batch, int(flats[0]), wrong, problem, None, limits, values)


def _lists(
    comparison: Comparison,
    lists: ExtremeLists,
    kind: int,
    batch: Batch,
    rows: Int64[np.ndarray, "batch n"],
    between: _Between,
    scale: Float32[np.ndarray, "batch n"],
) -> None:
    """Compare values with one kind of lists: `rows` are the rows of `lists` each value competes
    in."""
    values = between.low
    listed = np.full(values.shape, np.nan, np.float32)
    first = int(rows[0, 0]) // lists.each
    for index, context_id in enumerate(batch.context_ids.tolist()):
        rank = int(np.searchsorted(lists.chosen, context_id))
        entries, stored = lists.entries(rank, first, first + values.shape[1])
        listed[index, entries // lists.each - first] = stored
    member = ~np.isnan(listed)
    bound, findings = comparison.bounds.value, comparison.findings

    # Outside a list: how far above the k-th best.
    worst = lists.worst[rows]
    above = np.where(member, -np.inf, values - worst)
    missing = findings.within("outside a list", bound, np.maximum(above, 0) / scale)
    if bound == 0:  # for values equal bit for bit, the earlier context wins
        tied = (above == 0) & (batch.context_ids[:, None] < lists.worst_ids[rows])
        findings.equal("outside a list", 0, int(tied.sum()))
        missing |= tied
    problem = "should be in the list and is not"
    _add_findings(comparison, batch, first, missing, problem, kind, worst, values)

    # Inside a list: the difference from the stored value.
    stored_values = listed[member].astype(np.float64)
    below, above_high = values[member] - stored_values, stored_values - between.high[member]
    differences = np.maximum(np.maximum(below, above_high), 0) / scale[member]
    other = np.zeros(values.shape, np.bool_)
    other[member] = findings.within("inside a list", bound, differences)
    problem = "is in the list with another value"
    _add_findings(comparison, batch, first, other, problem, kind, listed, values)


def _add_findings(
    comparison: Comparison,
    batch: Batch,
    first: int,
    wrong: Bool[np.ndarray, "batch n"],
    problem: str,
    kind: int | None,
    stored: Float32[np.ndarray, "batch n"],
    values: Float32[np.ndarray, "batch n"],
) -> None:
    """Add a finding for each wrong context and neuron; `first` is the flat index of the first
    column."""
    where = np.argwhere(wrong)
    sign = -1 if kind == BOTTOM else 1  # troughs were negated

    def finding(index: int) -> Finding:
        row, column = (int(place) for place in where[index])
        return comparison.run.finding(
            first + column,
            problem,
            None if kind is None else schema.KINDS[kind],
            context_id=int(batch.context_ids[row]),
            stored=sign * float(stored[row, column]),
            recomputed=sign * float(values[row, column]),
        )

    comparison.findings.add_many(len(where), finding)


def check_contexts(
    engine: Engine, comparison: Comparison, corpus: PreparedCorpus, needed: Int64[np.ndarray, " m"]
) -> None:
    """Compare the stored rows of contexts with the corpus and with the lists of top examples.

    Checks the compared contexts, if stored, and those in `needed`, which must be stored.
    """
    top, run = comparison.lists.top, comparison.run
    listed = np.concatenate(
        [
            needed,
            *(lists.listed() for lists in (top, comparison.lists.bottom, comparison.lists.source)),
        ]
    )
    wanted = np.union1d(top.chosen, needed)
    table = schema.contexts
    with engine.connect() as connection:
        for start in range(0, len(wanted), _CHUNK):
            ids = wanted[start : start + _CHUNK].tolist()
            query = select(table).where(table.c.run_id == run.id, table.c.context_id.in_(ids))
            rows = {row.context_id: row for row in connection.execute(query)}
            missing = np.setdiff1d(np.intersect1d(ids, listed), list(rows))
            problems = [(int(c), "an example's context is not stored") for c in missing]
            for context_id, row in rows.items():
                problem = _context_problem(comparison, corpus, context_id, row)
                if problem is not None:
                    problems.append((context_id, problem))
            comparison.findings.equal(_CHECK, len(rows), len(problems))
            for context_id, problem in problems:
                comparison.findings.add(Finding(problem, context_id=context_id))


def _context_problem(
    comparison: Comparison, corpus: PreparedCorpus, context_id: int, row: Any
) -> str | None:
    stored, wanted = unpack_token_ids(row.token_ids), corpus.context(context_id)
    if len(stored) != len(wanted):
        return f"{len(stored)} tokens are stored, not {len(wanted)}"
    if (stored != wanted).any():
        place = int(np.flatnonzero(stored != wanted)[0])
        return f"token {int(stored[place])} is stored at position {place}, not {wanted[place]}"
    for name in ("included_from", "document_index", "source_index"):
        value, expected = int(getattr(row, name)), int(getattr(corpus, name)[context_id])
        if value != expected:
            return f"its {name} is {value}, not {expected}"
    top = comparison.lists.top
    rank = int(np.searchsorted(top.chosen, context_id))
    if rank < len(top.chosen) and top.chosen[rank] == context_id:
        neurons, _ = top.entries(rank, 0, comparison.run.neurons)
        examples = unpack_places(bytes(row.neurons))
        named = examples["neuron"][examples["kind"] == KINDS.index("top")]
        if not np.array_equal(np.sort(named), neurons):
            return f"it lists {len(named)} neurons it is a top example of, not {len(neurons)}"
    return None
