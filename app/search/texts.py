"""Search by text: the contexts that contain it, each with neurons that peak there."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from codecs import getincrementaldecoder
from itertools import accumulate
from typing import Any

import numpy as np

from app.contexts.queries import BOTTOM, CONTEXTS, NAMED, ORDER, TOP, Array, peaks
from app.errors import Invalid
from app.reading import cursors
from app.reading.runs import run_ref
from app.reading.store import Reading
from app.reading.vocabulary import spellings
from app.search.schemas import FoundContext, Snippet, TextSearch
from app.search.words import TextError, found_in, parse
from indexer.store.packing.codec import unpack_token_ids
from indexer.store.packing.postings import unpack_places
from indexer.store.text import index as text_index
from indexer.store.text.words import Phrase

_AROUND = 90
"""Characters shown before the first find, and twice as many after it."""


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
    rows = {row.context_id: row for row in connection.execute(CONTEXTS, parameters)}
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
    order = np.lexsort((examples["neuron"], ~hit[examples["position"]], ORDER[kinds]))
    top, bottom = int((kinds == TOP).sum()), int((kinds == BOTTOM).sum())
    return FoundContext(
        context_id=row.context_id,
        document_index=row.document_index,
        source=reading.run.sources[row.source_index] or None,
        text=_snippet(text, spans),
        top=top,
        bottom=bottom,
        others=len(kinds) - top - bottom,
        neurons=peaks(reading, examples, order[:NAMED], token_ids),
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
