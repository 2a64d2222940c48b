"""Reads a context and the neurons that have it as an example."""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy import Row, bindparam, select

from app.contexts.schemas import ContextNeuron, ContextNeurons, ExampleKind, NeuronPeak
from app.errors import Invalid, NotFound
from app.examples.queries import read_kinds
from app.reading import cursors, neurons
from app.reading.runs import run_ref
from app.reading.store import Reading
from app.reading.unit_names import name_at
from app.reading.vocabulary import text_of
from indexer.store import schema
from indexer.store.checksums import cover, missing
from indexer.store.packing.codec import unpack_token_ids
from indexer.store.packing.postings import unpack_places

TOP, BOTTOM, _RANDOM, _BAND, _SOURCE = range(len(schema.KINDS))
ORDER = np.argsort([TOP, BOTTOM, _SOURCE, _BAND, _RANDOM])
"""The place of each kind in lists."""
_NAMES: dict[int, ExampleKind] = {TOP: "top", BOTTOM: "bottom", _SOURCE: "source", _BAND: "band"}

Array = np.ndarray[Any, Any]

_TABLE = schema.contexts
_COVER, _NEURONS = cover(_TABLE), cover(_TABLE, "neurons_checksum")
_CONTEXTS = select(*_COVER.selected, *_NEURONS.selected[-2:]).where(
    _TABLE.c.run_id == bindparam("run_id"),
    _TABLE.c.context_id.in_(bindparam("context_ids", expanding=True)),
)
_AFTER = (
    select(*_COVER.selected)
    .where(_TABLE.c.run_id == bindparam("run_id"), _TABLE.c.context_id > bindparam("context_id"))
    .order_by(_TABLE.c.context_id)
    .limit(1)
)


def rows_of(reading: Reading, context_ids: list[int]) -> dict[int, Row[Any]]:
    """Rows of those contexts that are stored, by id. Raises Damaged."""
    run_id, connection = reading.run.id, reading.connection
    parameters = {"run_id": run_id, "context_ids": context_ids}
    rows = _COVER.check(connection.execute(_CONTEXTS, parameters).all())
    _NEURONS.check([(row.run_id, row.context_id, *row[-2:]) for row in rows])
    by_id = {row.context_id: row for row in rows}
    for context_id in context_ids:
        # Every row names the one before it, and the run names the last.
        if context_id not in by_id:
            parameters = {"run_id": run_id, "context_id": context_id}
            after = _COVER.check(connection.execute(_AFTER, parameters).all())
            if (after[0].previous if after else reading.run.last_context) >= context_id:
                raise missing(_TABLE, run_id=run_id, context_id=context_id)
    return by_id


def peaks(reading: Reading, examples: Array, which: Array, token_ids: Array) -> list[NeuronPeak]:
    """Peaks of neurons in a context. `examples` are its unpacked rows of `postings.PLACE`, `which`
    the indices among them, `token_ids` [pos] the context's tokens. Raises Damaged."""
    peaks = []
    for index, kind, position, value in examples[which].tolist():
        layer, neuron = reading.places.of(index)
        peaks.append(
            NeuronPeak(
                layer=layer,
                neuron=neuron,
                name=name_at(reading, layer, neuron),
                kind=_NAMES[kind],
                position=position,
                token=reading.vocabulary[int(token_ids[position])],
                value=value,
            )
        )
    return peaks


def context(
    reading: Reading, context_id: int, position: int | None, limit: int, cursor: str | None
) -> ContextNeurons:
    """A context with a page of its neurons; `position` None: of all positions.

    Raises NotFound, and Invalid for a cursor of another list.
    """
    run = reading.run
    row = rows_of(reading, [context_id]).get(context_id)
    if row is None:
        raise NotFound(
            f"Context {context_id} of {run.model} is not stored: of contexts 0 to "
            f"{run.contexts - 1}, only those that are an example of a {reading.units.noun} are."
        )
    token_ids = unpack_token_ids(bytes(row.token_ids))
    if position is not None and position >= len(token_ids):
        raise NotFound(
            f"Context {context_id} has positions 0 to {len(token_ids) - 1}: there is no position "
            f"{position}."
        )
    examples = unpack_places(bytes(row.neurons))
    examples = examples[np.lexsort((examples["neuron"], ORDER[examples["kind"]]))]
    top, bottom = (examples["kind"] == kind for kind in (TOP, BOTTOM))
    counts = [
        np.bincount(examples["position"][chosen], minlength=len(token_ids)).tolist()
        for chosen in (top, bottom, ~(top | bottom))
    ]
    listed = np.arange(len(examples))
    if position is not None:
        listed = np.flatnonzero(examples["position"] == position)
    at = -1 if position is None else position
    begin = 0
    if cursor is not None:
        its_context, its_position, begin = cursors.decode(cursor, int, int, int)
        if (its_context, its_position) != (context_id, at) or begin < 0:
            raise Invalid("The cursor belongs to another list: start again without it.")
    more = None
    if begin + limit < len(listed):
        more = cursors.encode(context_id, at, begin + limit)
    page = listed[begin : begin + limit]
    indices = examples["neuron"][page].tolist()
    rows = neurons.rows_of(reading, indices)
    in_context = peaks(reading, examples, page, token_ids)
    included = token_ids[row.included_from :].tolist()
    return ContextNeurons(
        model=run.model,
        run=run_ref(run),
        context_id=context_id,
        document_index=row.document_index,
        source=run.sources[row.source_index] or None,
        text=reading.text_of(included, row.included_from),
        tokens=reading.in_context(
            [reading.vocabulary[token_id] for token_id in token_ids.tolist()], row.included_from
        ),
        token_ids=token_ids.tolist(),
        included_from=row.included_from,
        special=reading.special_inside(token_ids.tolist(), row.included_from),
        top=counts[0],
        bottom=counts[1],
        others=counts[2],
        random=context_id in _random(reading),
        position=position,
        items=[
            ContextNeuron(
                **dict(peak),
                max=rows[index].max,
                min=rows[index].min,
                peak_token=text_of(reading.vocabulary, rows[index].peak_token_id),
            )
            for index, peak in zip(indices, in_context, strict=True)
        ],
        next=more,
    )


def _random(reading: Reading) -> list[int]:
    """The ids of the random examples, which are the same for all neurons: those of the first."""
    key = schema.neuron_key(reading.run.id, 0)
    examples = read_kinds(reading, key).get(_RANDOM)
    return [] if examples is None else examples.context_ids.tolist()
