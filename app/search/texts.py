"""Searches by text: the contexts that contain it, each with neurons that peak in it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from codecs import getincrementaldecoder
from itertools import accumulate, chain, pairwise
from typing import Any, NamedTuple

import numpy as np

from app.contexts.queries import BOTTOM, ORDER, TOP, Array, peaks, rows_of
from app.errors import Invalid
from app.reading import cursors
from app.reading.heads import pair_places
from app.reading.neurons import peak_tokens
from app.reading.runs import run_ref
from app.reading.store import Reading
from app.reading.unit_names import name_at
from app.search.schemas import (
    ContextSort,
    FoundContext,
    PairRole,
    Snippet,
    TextNeuron,
    TextSearch,
)
from app.search.words import TextError, matches, parse
from indexer.store import schema
from indexer.store.checksums import missing
from indexer.store.packing.codec import unpack_token_ids
from indexer.store.packing.postings import PLACE, unpack_places
from indexer.store.text import index as text_index
from indexer.store.text.words import Phrase
from indexer.store.units import HEADS

NAMED = 6
"""The most neurons of each context."""
MOST_RANKED = 200
"""The most contexts that are ranked; further ones follow in corpus order."""
SPECIFIC = 12
"""The most neurons that are named for the whole search."""
_AROUND = 90
"""Characters before the first match; twice as many follow it."""


def search(
    reading: Reading,
    q: str,
    limit: int,
    cursor: str | None,
    sort: ContextSort | None = None,
    role: PairRole | None = None,
) -> TextSearch:
    """A page of the contexts that contain every word and phrase of `q`.

    The first `MOST_RANKED` of the corpus are ranked as `sort` says, by default by how specifically
    neurons peak on a match, and further ones follow in corpus order. With `role`, heads peak at the
    query or the key of their largest pair. Raises Invalid for an invalid query, cursor or role.
    """
    sort = sort or "specific"
    if role is not None and reading.run.set_name != HEADS:
        raise Invalid(
            f"Run {reading.run.id} of {reading.run.model} is not of attention heads: leave out "
            f"as={role}."
        )
    which = sort if role is None else f"{sort} {role}"
    try:
        phrases = parse(q)
    except TextError as error:
        raise Invalid(str(error)) from None
    place, after = 0, -1
    if cursor is not None:
        *its_search, place, after = cursors.decode(cursor, str, str, int, int)
        if its_search != [q, which] or place < 0 or after < -1:
            raise Invalid("The cursor belongs to another search: start again without it.")
    run, connection = reading.run, reading.connection
    reading.check_texts()
    first = text_index.search(connection, run.id, phrases, -1, MOST_RANKED + 1)
    ranked = _read(reading, first[:MOST_RANKED], phrases, role)
    counts = _peaks_on_match(ranked)
    more = None
    if place < len(ranked) or after < 0:
        ranked.sort(key=lambda context: (*_rank(context, counts, sort), context.row.context_id))
        page = ranked[place : place + limit]
        if place + limit < len(ranked):
            more = cursors.encode(q, which, place + limit, -1)
        elif len(first) > MOST_RANKED:
            more = cursors.encode(q, which, len(ranked), first[MOST_RANKED - 1])
    else:
        ids = text_index.search(connection, run.id, phrases, after, limit + 1)
        page = _read(reading, ids[:limit], phrases, role)
        more = cursors.encode(q, which, place, ids[limit - 1]) if len(ids) > limit else None
    specific = sorted(counts, key=lambda index: (-counts[index], index))[:SPECIFIC]
    tokens = peak_tokens(reading, specific) if specific else {}
    return TextSearch(
        model=run.model,
        run=run_ref(run),
        q=q,
        role=role,
        sort=sort,
        ranked=len(ranked),
        neurons=[
            TextNeuron(
                **dict(zip(("layer", "neuron"), reading.places.of(index), strict=True)),
                name=name_at(reading, *reading.places.of(index)),
                contexts=counts[index],
                peak_token=tokens[index],
            )
            for index in specific
        ],
        items=[_match(reading, context, counts) for context in page],
        next=more,
    )


class _Context(NamedTuple):
    """A context that contains a text."""

    row: Any
    token_ids: Array
    text: str
    spans: list[tuple[int, int]]
    """The matches, in characters."""
    special: list[tuple[int, int]]
    """Special tokens inside the row, in characters."""
    examples: Array
    """The neurons that have it as an example: rows of `postings.PLACE` [examples]."""
    hit: Array
    """Whether a match covers each position [pos]."""

    @property
    def on_match(self) -> Array:
        """Indices over all layers [matches] of the neurons whose top example it is with the peak on
        a match."""
        examples = self.examples
        chosen = (examples["kind"] == TOP) & self.hit[examples["position"]]
        indices: Array = examples["neuron"][chosen]
        return indices


def _read(
    reading: Reading, ids: list[int], phrases: list[Phrase], role: PairRole | None
) -> list[_Context]:
    """Those of the contexts with these ids that have the phrases in their text, in their order.

    Older runs are indexed with the names of special tokens inside their contexts. Raises Damaged.
    """
    rows = rows_of(reading, ids)
    for number in ids:
        if number not in rows:  # the table of words has it, and every stored context is there
            raise missing(schema.contexts, run_id=reading.run.id, context_id=number)
    contexts = [_context_of(reading, rows[number], phrases, role) for number in ids]
    return [
        context
        for context in contexts
        if not context.special
        or all(matches(context.text, [phrase], context.special) for phrase in phrases)
    ]


def _context_of(
    reading: Reading, row: Any, phrases: list[Phrase], role: PairRole | None
) -> _Context:
    token_ids = unpack_token_ids(bytes(row.token_ids))
    included = token_ids[row.included_from :].tolist()
    spelling = list(map(reading.spelling.__getitem__, included))
    spelling = reading.in_context(spelling, row.included_from)
    text = b"".join(spelling).decode("utf-8", "replace")
    starts = starts_of(spelling)
    special_ids = reading.special_token_ids
    special = [
        (starts[i], starts[i + 1])
        for i, token_id in enumerate(included if special_ids else ())
        if token_id in special_ids
    ]
    spans = matches(text, phrases, special)
    hit = np.zeros(len(token_ids), np.bool_)
    for positions in tokens_at(spelling, starts, spans):
        hit[row.included_from + positions.start : row.included_from + positions.stop] = True
    if role is None:
        examples = unpack_places(bytes(row.neurons))
    else:
        examples = pair_places(reading, role).get(row.context_id, np.empty(0, PLACE))
    return _Context(row, token_ids, text, spans, special, examples, hit)


def _peaks_on_match(contexts: list[_Context]) -> dict[int, int]:
    """In how many of the contexts, as top examples, each neuron peaks on a match: by its index
    over all layers."""
    if not contexts:
        return {}
    indices, counts = np.unique(
        np.concatenate([context.on_match for context in contexts]), return_counts=True
    )
    return dict(zip(indices.tolist(), counts.tolist(), strict=True))


def _rank(context: _Context, counts: dict[int, int], sort: ContextSort) -> tuple[int, ...]:
    """A sort key before the context's id, all descending. By `specific`: the number of contexts of
    the neuron that most often peaks on a match, then the number of neurons that peak on a match in
    this context."""
    if sort == "context":
        return ()
    if sort == "top":
        return (-int((context.examples["kind"] == TOP).sum()),)
    on_match = context.on_match.tolist()
    return -max((counts[index] for index in on_match), default=0), -len(on_match)


def _match(reading: Reading, context: _Context, counts: dict[int, int]) -> FoundContext:
    row, examples, hit = context.row, context.examples, context.hit
    kinds = examples["kind"]
    often = np.array([counts.get(index, 0) for index in examples["neuron"].tolist()], np.int64)
    order = np.lexsort((examples["neuron"], -often, ~hit[examples["position"]], ORDER[kinds]))
    top, bottom = int((kinds == TOP).sum()), int((kinds == BOTTOM).sum())
    return FoundContext(
        context_id=row.context_id,
        document_index=row.document_index,
        source=reading.run.sources[row.source_index] or None,
        text=_snippet(context.text, context.spans, context.special),
        top=top,
        bottom=bottom,
        others=len(kinds) - top - bottom,
        on_match=len(context.on_match),
        neurons=peaks(reading, examples, order[:NAMED], context.token_ids),
    )


def starts_of(spelling: list[bytes]) -> list[int]:
    """Where each token begins in the text, in characters, and where the last one ends."""
    if b"".join(spelling).isascii():  # much faster, and true of most texts
        return list(accumulate(map(len, spelling), initial=0))
    decoder = getincrementaldecoder("utf-8")("replace")
    return list(accumulate((len(decoder.decode(token)) for token in spelling), initial=0))


def tokens_at(
    spelling: list[bytes], starts: list[int], spans: list[tuple[int, int]]
) -> list[range]:
    """The tokens that each span of a text covers. Spans count characters; `spelling` has the bytes
    of all tokens, and `starts` is `starts_of` them. A character that is split over several tokens
    belongs to each of them."""
    covered = []
    for start, end in spans:
        first = bisect_left(starts, starts[bisect_right(starts, start) - 1])
        last = bisect_right(starts, end - 1)
        while first < last and not spelling[first]:  # an empty token
            first += 1
        covered.append(range(first, last))
    return covered


def _snippet(
    text: str, spans: list[tuple[int, int]], special: list[tuple[int, int]]
) -> list[Snippet]:
    """The text around the first match, with matches and special tokens marked."""
    begin = max(0, (spans[0][0] if spans else 0) - _AROUND)
    end = min(len(text), (spans[0][1] if spans else 0) + 2 * _AROUND)
    edges = {begin, end, *chain.from_iterable(spans), *chain.from_iterable(special)}
    parts = [
        Snippet(text=text[a:b], found=_covered(a, spans), special=_covered(a, special))
        for a, b in pairwise(sorted(edge for edge in edges if begin <= edge <= end))
    ]
    if begin > 0:
        parts.insert(0, Snippet(text="…", found=False))
    if end < len(text):
        parts.append(Snippet(text="…", found=False))
    return parts


def _covered(at: int, spans: list[tuple[int, int]]) -> bool:
    return any(start <= at < stop for start, stop in spans)
