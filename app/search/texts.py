"""Searches by text: the contexts that contain it, each with neurons that peak in it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from codecs import getincrementaldecoder
from itertools import accumulate
from typing import Any

import numpy as np

from app.contexts.queries import BOTTOM, ORDER, TOP, Array, peaks, rows_of
from app.errors import Invalid
from app.reading import cursors
from app.reading.runs import run_ref
from app.reading.store import Reading
from app.search.schemas import FoundContext, Snippet, TextSearch
from app.search.words import TextError, matches, parse
from indexer.store import schema
from indexer.store.checksums import missing
from indexer.store.packing.codec import unpack_token_ids
from indexer.store.packing.postings import unpack_places
from indexer.store.text import index as text_index
from indexer.store.text.words import Phrase

NAMED = 6
"""The most neurons of each context."""
_AROUND = 90
"""Characters before the first match; twice as many follow it."""


def search(reading: Reading, q: str, limit: int, cursor: str | None) -> TextSearch:
    """A page of the contexts that contain every word and phrase of `q`, in corpus order.

    Raises Invalid for an invalid query or cursor.
    """
    try:
        phrases = parse(q)
    except TextError as error:
        raise Invalid(str(error)) from None
    after = -1
    if cursor is not None:
        its_query, after = cursors.decode(cursor, str, int)
        if its_query != q or after < 0:
            raise Invalid("The cursor belongs to another search: start again without it.")
    run, connection = reading.run, reading.connection
    reading.check_texts()
    ids = text_index.search(connection, run.id, phrases, after, limit + 1)
    more = cursors.encode(q, ids[limit - 1]) if len(ids) > limit else None
    page = ids[:limit]
    rows = rows_of(reading, page)
    for number in page:
        if number not in rows:  # the table of words has it, and every stored context is there
            raise missing(schema.contexts, run_id=run.id, context_id=number)
    tokens = {number: unpack_token_ids(bytes(rows[number].token_ids)) for number in page}
    return TextSearch(
        model=run.model,
        run=run_ref(run),
        q=q,
        items=[_match(reading, rows[number], tokens[number], phrases) for number in page],
        next=more,
    )


def _match(
    reading: Reading,
    row: Any,
    token_ids: Array,
    phrases: list[Phrase],
) -> FoundContext:
    included = token_ids[row.included_from :].tolist()
    spelling = [reading.spelling[token_id] for token_id in included]
    spelling = reading.in_context(spelling, row.included_from)
    text = b"".join(spelling).decode("utf-8", "replace")
    spans = matches(text, phrases)
    examples = unpack_places(bytes(row.neurons))
    kinds = examples["kind"]
    hit = np.zeros(len(token_ids), np.bool_)
    for positions in tokens_at(spelling, spans):
        hit[row.included_from + positions.start : row.included_from + positions.stop] = True
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


def tokens_at(spelling: list[bytes], spans: list[tuple[int, int]]) -> list[range]:
    """The tokens that each span of a text covers. Spans count characters; `spelling` has the bytes
    of all tokens. A character that is split over several tokens belongs to each of them."""
    decoder = getincrementaldecoder("utf-8")("replace")
    starts = list(accumulate((len(decoder.decode(token)) for token in spelling), initial=0))
    covered = []
    for start, end in spans:
        first = bisect_left(starts, starts[bisect_right(starts, start) - 1])
        last = bisect_right(starts, end - 1)
        while first < last and not spelling[first]:  # an empty token
            first += 1
        covered.append(range(first, last))
    return covered


def _snippet(text: str, spans: list[tuple[int, int]]) -> list[Snippet]:
    """The text around the first match, with matches marked."""
    begin = max(0, (spans[0][0] if spans else 0) - _AROUND)
    end = min(len(text), (spans[0][1] if spans else 0) + 2 * _AROUND)
    parts: list[Snippet] = []
    at = begin
    for start, stop in spans:
        if start >= end:
            break
        if start > at:
            parts.append(Snippet(text=text[at:start], found=False))
        at = min(stop, end)
        parts.append(Snippet(text=text[start:at], found=True))
    if at < end:
        parts.append(Snippet(text=text[at:end], found=False))
    if begin > 0:
        parts.insert(0, Snippet(text="…", found=False))
    if end < len(text):
        parts.append(Snippet(text="…", found=False))
    return parts
