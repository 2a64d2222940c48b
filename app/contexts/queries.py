"""Reading by context: which contexts have a text, and the neurons that peak in one."""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy import bindparam, select

from app.contexts.schemas import ContextNeuron, ContextNeurons, ExampleKind, NeuronPeak
from app.errors import Invalid, NotFound
from app.reading import cursors
from app.reading.neurons import neurons_of
from app.reading.places import Places
from app.reading.runs import run_ref
from app.reading.store import Reading
from app.reading.vocabulary import spellings
from indexer.store import schema
from indexer.store.packing.codec import unpack_kinds, unpack_token_ids
from indexer.store.packing.postings import unpack_places

NAMED = 6
"""Neurons named beside each context that is found."""
TOP, BOTTOM, _RANDOM, _BAND, _SOURCE = range(len(schema.KINDS))
ORDER = np.argsort([TOP, BOTTOM, _SOURCE, _BAND, _RANDOM])
"""Of each kind: its turn in a list."""
_NAMES: dict[int, ExampleKind] = {TOP: "top", BOTTOM: "bottom", _SOURCE: "source", _BAND: "band"}

Array = np.ndarray[Any, Any]

CONTEXTS = select(schema.contexts).where(
    schema.contexts.c.run_id == bindparam("run_id"),
    schema.contexts.c.context_id.in_(bindparam("context_ids", expanding=True)),
)
_LISTS = select(schema.examples.c.kind, schema.examples.c.packed).where(
    schema.examples.c.neuron_id == bindparam("key")
)


def peaks(reading: Reading, examples: Array, which: Array, token_ids: Array) -> list[NeuronPeak]:
    place = Places(reading.run.widths)
    found = []
    for flat, kind, position, value in examples[which].tolist():
        layer, neuron = place.of(flat)
        found.append(
            NeuronPeak(
                layer=layer,
                neuron=neuron,
                kind=_NAMES[kind],
                position=position,
                token=reading.vocabulary[int(token_ids[position])],
                value=value,
            )
        )
    return found


def context(
    reading: Reading, context_id: int, position: int | None, limit: int, cursor: str | None
) -> ContextNeurons:
    """A context with one page of its neurons: all, or those of one position. Raises NotFound."""
    run, connection = reading.run, reading.connection
    parameters = {"run_id": run.id, "context_ids": [context_id]}
    row = connection.execute(CONTEXTS, parameters).one_or_none()
    if row is None:
        raise NotFound(
            f"Context {context_id} of {run.model} is not kept: it has contexts 0 to "
            f"{run.contexts - 1}, and keeps those that are an example of some neuron."
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
        np.bincount(examples["position"][some], minlength=len(token_ids)).tolist()
        for some in (top, bottom, ~(top | bottom))
    ]
    mine = np.arange(len(examples))
    if position is not None:
        mine = np.flatnonzero(examples["position"] == position)
    begin = 0
    if cursor is not None:
        told, told_position, begin = cursors.decode(cursor, int, int, int)
        wanted = -1 if position is None else position
        if (told, told_position) != (context_id, wanted) or begin < 0:
            raise Invalid("The cursor belongs to another list: start again without it.")
    more = None
    if begin + limit < len(mine):
        more = cursors.encode(context_id, -1 if position is None else position, begin + limit)
    shown = mine[begin : begin + limit]
    flats = examples["neuron"][shown].tolist()
    facts = neurons_of(reading, flats)
    in_context = peaks(reading, examples, shown, token_ids)
    included = token_ids[row.included_from :].tolist()
    spelled = spellings(connection, run.vocabulary_id, set(included))
    return ContextNeurons(
        model=run.model,
        run=run_ref(run),
        context_id=context_id,
        document_index=row.document_index,
        source=run.sources[row.source_index] or None,
        text=b"".join(spelled[token_id] for token_id in included).decode("utf-8", "replace"),
        tokens=[reading.vocabulary[token_id] for token_id in token_ids.tolist()],
        token_ids=token_ids.tolist(),
        included_from=row.included_from,
        top=counts[0],
        bottom=counts[1],
        others=counts[2],
        random=context_id in _random(reading),
        position=position,
        items=[
            ContextNeuron(
                **vars(peak),
                max=facts[flat].max,
                min=facts[flat].min,
                peak_token=reading.vocabulary[facts[flat].peak_token_id],
            )
            for flat, peak in zip(flats, in_context, strict=True)
        ],
        next=more,
    )


def _random(reading: Reading) -> list[int]:
    """The contexts that are a random example of every neuron: the first neuron's are."""
    key = schema.neuron_key(reading.run.id, 0)
    rows = reading.connection.execute(_LISTS, {"key": key})
    examples = unpack_kinds((row.kind, row.packed) for row in rows).get(_RANDOM)
    return [] if examples is None else examples.context_ids.tolist()
