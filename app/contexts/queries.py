"""Reading by context: which contexts have a text, and the neurons that peak in one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from codecs import getincrementaldecoder
from itertools import accumulate
from typing import Any

import numpy as np
from sqlalchemy import bindparam, select

from app.errors import Invalid, NotFound
from app.reading import cursors
from app.reading.runs import run_ref
from app.reading.store import Reading
from app.reading.vocabulary import spellings
from app.search.schemas import (
    ContextNeuron,
    ContextNeurons,
    ExampleKind,
    FoundContext,
    NeuronPeak,
    Snippet,
    TextSearch,
)
from app.search.tokens import Places, neurons_of
from app.search.words import TextError, found_in, parse
from indexer.store import schema
from indexer.store.packing.codec import unpack_kinds, unpack_token_ids
from indexer.store.packing.postings import unpack_places
from indexer.store.text import index as text_index
from indexer.store.text.words import Phrase

NAMED = 6
"""Neurons named beside each context that is found."""
_AROUND = 90
"""Characters shown before the first find, and twice as many after it."""
_TOP, _BOTTOM, _RANDOM, _BAND, _SOURCE = range(len(schema.KINDS))
_ORDER = np.argsort([_TOP, _BOTTOM, _SOURCE, _BAND, _RANDOM])
"""Of each kind: its turn in a list."""
_NAMES: dict[int, ExampleKind] = {_TOP: "top", _BOTTOM: "bottom", _SOURCE: "source", _BAND: "band"}

Array = np.ndarray[Any, Any]

_CONTEXTS = select(schema.contexts).where(
    schema.contexts.c.run_id == bindparam("run_id"),
    schema.contexts.c.context_id.in_(bindparam("context_ids", expanding=True)),
)
_LISTS = select(schema.examples.c.kind, schema.examples.c.packed).where(
    schema.examples.c.neuron_id == bindparam("key")
)


def search(reading: Reading, q: str, limit: int, cursor: str | None) -> TextSearch:
    """One page of the contexts that have all that `q` asks for. Raises Invalid."""
    try:
        phrases = parse(q)
    except TextError as error:
        raise Invalid(str(error)) from None
    after = -1
    if cursor is not None:
        told, after = cursors.decode(cursor, str, int)
        if told != q or after < 0:
            raise Invalid("The cursor belongs to another search: start again without it.")
    run, connection = reading.run, reading.connection
    ids = text_index.search(connection, run.id, phrases, after, limit + 1)
    more = cursors.encode(q, ids[limit - 1]) if len(ids) > limit else None
    shown = ids[:limit]
    parameters = {"run_id": run.id, "context_ids": shown}
    rows = {row.context_id: row for row in connection.execute(_CONTEXTS, parameters)}
    tokens = {one: unpack_token_ids(bytes(rows[one].token_ids)) for one in shown}
    spelled = spellings(
        connection,
        run.vocabulary_id,
        {token for some in tokens.values() for token in some.tolist()},
    )
    return TextSearch(
        model=run.model,
        run=run_ref(run),
        q=q,
        items=[_found(reading, rows[one], tokens[one], spelled, phrases) for one in shown],
        next=more,
    )


def _found(
    reading: Reading,
    row: Any,
    token_ids: Array,
    spelled: dict[int, bytes],
    phrases: list[Phrase],
) -> FoundContext:
    included = token_ids[row.included_from :].tolist()
    pieces = [spelled[token_id] for token_id in included]
    text = b"".join(pieces).decode("utf-8", "replace")
    spans = found_in(text, phrases)
    examples = unpack_places(bytes(row.neurons))
    kinds = examples["kind"]
    hit = np.zeros(len(token_ids), np.bool_)
    for found in tokens_at(pieces, spans):
        hit[row.included_from + found.start : row.included_from + found.stop] = True
    order = np.lexsort((examples["neuron"], ~hit[examples["position"]], _ORDER[kinds]))
    top, bottom = int((kinds == _TOP).sum()), int((kinds == _BOTTOM).sum())
    return FoundContext(
        context_id=row.context_id,
        document_index=row.document_index,
        source=reading.run.sources[row.source_index] or None,
        text=_snippet(text, spans),
        top=top,
        bottom=bottom,
        others=len(kinds) - top - bottom,
        neurons=_peaks(reading, examples, order[:NAMED], token_ids),
    )


def tokens_at(pieces: list[bytes], spans: list[tuple[int, int]]) -> list[range]:
    """Of spans of a text, in characters: the tokens that have them, given the bytes of all.

    A character that is split over tokens is in each of them.
    """
    decoder = getincrementaldecoder("utf-8")("replace")
    starts = list(accumulate((len(decoder.decode(one)) for one in pieces), initial=0))
    found = []
    for start, end in spans:
        first = bisect_left(starts, starts[bisect_right(starts, start) - 1])
        last = bisect_right(starts, end - 1)
        while first < last and not pieces[first]:  # a token that spells nothing
            first += 1
        found.append(range(first, last))
    return found


def _snippet(text: str, spans: list[tuple[int, int]]) -> list[Snippet]:
    begin = max(0, (spans[0][0] if spans else 0) - _AROUND)
    end = min(len(text), (spans[0][1] if spans else 0) + 2 * _AROUND)
    pieces: list[Snippet] = []
    at = begin
    for start, stop in spans:
        if start >= end:
            break
        if start > at:
            pieces.append(Snippet(text=text[at:start], found=False))
        at = min(stop, end)
        pieces.append(Snippet(text=text[start:at], found=True))
    if at < end:
        pieces.append(Snippet(text=text[at:end], found=False))
    if begin > 0:
        pieces.insert(0, Snippet(text="…", found=False))
    if end < len(text):
        pieces.append(Snippet(text="…", found=False))
    return pieces


def _peaks(reading: Reading, examples: Array, which: Array, token_ids: Array) -> list[NeuronPeak]:
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
    row = connection.execute(_CONTEXTS, parameters).one_or_none()
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
    examples = examples[np.lexsort((examples["neuron"], _ORDER[examples["kind"]]))]
    top, bottom = (examples["kind"] == kind for kind in (_TOP, _BOTTOM))
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
    peaks = _peaks(reading, examples, shown, token_ids)
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
            for flat, peak in zip(flats, peaks, strict=True)
        ],
        next=more,
    )


def _random(reading: Reading) -> list[int]:
    """The contexts that are a random example of every neuron: the first neuron's are."""
    key = schema.neuron_key(reading.run.id, 0)
    rows = reading.connection.execute(_LISTS, {"key": key})
    examples = unpack_kinds((row.kind, row.packed) for row in rows).get(_RANDOM)
    return [] if examples is None else examples.context_ids.tolist()
