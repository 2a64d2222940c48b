"""Recomputed contexts beside every neuron's lists: whether one should be in a list and is not, is
in one by a value it does not have, or goes beyond a neuron's maximum or minimum."""

from __future__ import annotations

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
from indexer.verify.forward import Seen
from indexer.verify.promised import BOTTOM, SOURCE, TOP
from indexer.verify.report import SMALL, Finding
from indexer.verify.stored import Compared, Kept

_CHUNK = 500  # contexts read at once

Array = np.ndarray[Any, Any]


def compare_layer(what: Compared, batch: Batch, layer: int, seen: Seen) -> None:
    """Compare one layer of a batch with the lists of all its neurons."""
    counted = list(zip(seen.activations, batch.included, strict=True))
    peaks = np.stack([acts[included].max(axis=0) for acts, included in counted])
    troughs = np.stack([acts[included].min(axis=0) for acts, included in counted])
    scale = np.maximum(np.maximum(np.abs(peaks), np.abs(troughs)), np.float32(SMALL))
    first = int(what.run.offsets[layer])
    flats = first + np.arange(peaks.shape[1])
    _limits(what, batch, flats, peaks, troughs, scale)
    lists, slots = what.lists, what.promised.source_slots
    every = np.broadcast_to(flats, peaks.shape)  # a neuron's one row, whatever the context
    _lists(what, lists.top, TOP, batch, every, peaks, scale)
    _lists(what, lists.bottom, BOTTOM, batch, every, -troughs, scale)
    if slots:
        rows = flats[None, :] * slots + what.promised.slots[batch.context_ids][:, None]
        _lists(what, lists.source, SOURCE, batch, rows, peaks, scale)


def _limits(
    what: Compared,
    batch: Batch,
    flats: Int64[np.ndarray, " n"],
    peaks: Float32[np.ndarray, "batch n"],
    troughs: Float32[np.ndarray, "batch n"],
    scale: Float32[np.ndarray, "batch n"],
) -> None:
    """No context goes beyond a neuron's maximum or minimum."""
    for name, values, limit, sign in (
        ("maximum", peaks, what.lists.maximum[flats], 1),
        ("minimum", troughs, what.lists.minimum[flats], -1),
    ):
        beyond = np.maximum(sign * (values - limit), 0) / scale
        wrong = what.findings.within("beyond maximum or minimum", what.bounds.value, beyond)
        limits = np.broadcast_to(limit, values.shape)
        _tell(what, batch, int(flats[0]), wrong, f"goes beyond the {name}", None, limits, values)


def _lists(
    what: Compared,
    kept: Kept,
    kind: int,
    batch: Batch,
    rows: Int64[np.ndarray, "batch n"],
    values: Float32[np.ndarray, "batch n"],
    scale: Float32[np.ndarray, "batch n"],
) -> None:
    """`rows` are those of `kept` that a context competes in, `values` what it competes with."""
    listed = np.full(values.shape, np.nan, np.float32)
    first = int(rows[0, 0]) // kept.each
    for index, context_id in enumerate(batch.context_ids.tolist()):
        rank = int(np.searchsorted(kept.chosen, context_id))
        entries, stored = kept.entries(rank, first, first + values.shape[1])
        listed[index, entries // kept.each - first] = stored
    member = ~np.isnan(listed)
    bound, findings = what.bounds.value, what.findings

    # Outside a list: how far above the k-th best.
    worst = kept.worst[rows]
    above = np.where(member, -np.inf, values - worst)
    missing = findings.within("outside a list", bound, np.maximum(above, 0) / scale)
    if bound == 0:  # what is equal bit for bit is decided by the earlier context
        tied = (above == 0) & (batch.context_ids[:, None] < kept.worst_ids[rows])
        findings.equal("outside a list", 0, int(tied.sum()))
        missing |= tied
    told = "is better than the last of the list and not in it"
    _tell(what, batch, first, missing, told, kind, worst, values)

    # Inside a list: by the value that it has.
    differences = np.abs(listed[member].astype(np.float64) - values[member]) / scale[member]
    other = np.zeros(values.shape, np.bool_)
    other[member] = findings.within("inside a list", bound, differences)
    _tell(what, batch, first, other, "is in the list by another value", kind, listed, values)


def _tell(
    what: Compared,
    batch: Batch,
    first: int,
    wrong: Bool[np.ndarray, "batch n"],
    told: str,
    kind: int | None,
    stored: Float32[np.ndarray, "batch n"],
    values: Float32[np.ndarray, "batch n"],
) -> None:
    """One finding for each context and neuron that is wrong; `first` is the first column's."""
    where = np.argwhere(wrong)
    sign = -1 if kind == BOTTOM else 1  # their troughs were negated

    def finding(index: int) -> Finding:
        row, column = (int(place) for place in where[index])
        return what.run.finding(
            first + column,
            told,
            None if kind is None else schema.KINDS[kind],
            context_id=int(batch.context_ids[row]),
            stored=sign * float(stored[row, column]),
            recomputed=sign * float(values[row, column]),
        )

    what.findings.tell_many(len(where), finding)


def check_contexts(
    engine: Engine, what: Compared, corpus: PreparedCorpus, needed: Int64[np.ndarray, " m"]
) -> None:
    """The stored rows of the compared contexts and of those in `needed`, which have to be there:
    their token ids and documents are the corpus's, and they name the neurons they are a top example
    of."""
    top, run = what.lists.top, what.run
    listed = np.concatenate(
        [needed, *(kept.listed() for kept in (top, what.lists.bottom, what.lists.source))]
    )
    wanted = np.union1d(top.chosen, needed)
    table = schema.contexts
    with engine.connect() as connection:
        for start in range(0, len(wanted), _CHUNK):
            some = wanted[start : start + _CHUNK].tolist()
            query = select(table).where(table.c.run_id == run.id, table.c.context_id.in_(some))
            rows = {row.context_id: row for row in connection.execute(query)}
            missing = np.setdiff1d(np.intersect1d(some, listed), list(rows))
            problems = [(int(c), "an example's context is not stored") for c in missing]
            for context_id, row in rows.items():
                problem = _context_problem(what, corpus, context_id, row)
                if problem is not None:
                    problems.append((context_id, problem))
            what.findings.equal("contexts: tokens, place, neurons", len(rows), len(problems))
            for context_id, problem in problems:
                what.findings.tell(Finding(problem, context_id=context_id))


def _context_problem(
    what: Compared, corpus: PreparedCorpus, context_id: int, row: Any
) -> str | None:
    stored, wanted = unpack_token_ids(row.token_ids), corpus.context(context_id)
    if len(stored) != len(wanted):
        return f"{len(stored)} tokens are stored, it has {len(wanted)}"
    if (stored != wanted).any():
        place = int(np.flatnonzero(stored != wanted)[0])
        return f"token {int(stored[place])} is stored at position {place}, it is {wanted[place]}"
    for name in ("included_from", "document_index", "source_index"):
        found, meant = int(getattr(row, name)), int(getattr(corpus, name)[context_id])
        if found != meant:
            return f"its {name} is stored as {found}, it is {meant}"
    top = what.lists.top
    rank = int(np.searchsorted(top.chosen, context_id))
    if rank < len(top.chosen) and top.chosen[rank] == context_id:
        neurons, _ = top.entries(rank, 0, what.run.neurons)
        examples = unpack_places(bytes(row.neurons))
        named = examples["neuron"][examples["kind"] == KINDS.index("top")]
        if not np.array_equal(np.sort(named), neurons):
            return f"it names {len(named)} neurons it is a top example of, not the {len(neurons)}"
    return None
