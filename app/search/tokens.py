"""Searches by token: the neurons that peak on a token, promote it, suppress it, or read it, and the
heads that attend from it or to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sqlalchemy import Row, bindparam, select

from app.drawing.quoting import quoted
from app.errors import Invalid, NotFound
from app.reading import cursors
from app.reading.columns import columns
from app.reading.heads import PAIR_ROLES, pair_tokens
from app.reading.neurons import promoted_token, rows_of
from app.reading.runs import run_ref
from app.reading.store import Reading
from app.reading.unit_names import name_at
from app.reading.vocabulary import text_of
from app.schemas import Order
from app.search.schemas import Role, RoleCount, Token, TokenNeuron, TokenSearch, TokenSort
from indexer.store import schema
from indexer.store.checksums import cover, missing
from indexer.store.packing.postings import unpack_token

Array = np.ndarray[Any, Any]

_TABLE = schema.token_neurons
_COVER = cover(_TABLE)
_LISTS = (
    select(*_COVER.selected)
    .where(_TABLE.c.run_id == bindparam("run_id"), _TABLE.c.token_id >= bindparam("token_id"))
    .order_by(_TABLE.c.token_id, _TABLE.c.role)
    .limit(len(schema.ROLES) + 1)
)
"""The lists of a token and, unless they are the last, at least the next list."""


def tokens_like(reading: Reading, prefix: str, limit: int) -> list[Token]:
    """Tokens that begin with `prefix`, with or without a leading space: exact matches first, then
    by id, since most vocabularies begin with the most common tokens."""
    matches: set[int] = set()
    for beginning in {prefix, " " + prefix}:
        matches |= set(reading.token_index.starting_with(beginning))
    exact = {prefix: 0, " " + prefix: 1}
    texts = reading.vocabulary
    ordered = sorted(matches, key=lambda token_id: (exact.get(texts[token_id], 2), token_id))
    return [Token(token=texts[token_id], token_id=token_id) for token_id in ordered[:limit]]


def token_of(reading: Reading, token: str | None, token_id: int | None) -> int:
    """The id of a token, given its exact text or its id. Raises NotFound, Invalid."""
    if token and token_id is not None:
        raise Invalid("`token` and `token_id` both name a token: use only one of them.")
    if token_id is not None:
        if token_id >= len(reading.vocabulary):
            raise NotFound(
                f"{reading.run.model} has tokens 0 to {len(reading.vocabulary) - 1}: there is no "
                f"token {token_id}."
            )
        return token_id
    if not token:
        raise Invalid("The request names no token: add `token`, its exact text, or `token_id`.")
    ids = next(filter(None, map(reading.token_index.ids, reading.spellings_of(token))), [])
    if not ids:
        raise NotFound(
            f"No token of {reading.run.model} is exactly “{quoted(token)}”: spaces and case matter."
        )
    return ids[0]


def search(
    reading: Reading,
    token_id: int,
    role: Role | None,
    limit: int,
    cursor: str | None,
    sort: TokenSort | None = None,
    order: Order = "desc",
) -> TokenSearch:
    """A page of the neurons to which a token has a role, by default the first with any neurons.
    `sort` is by default that of the role. Ties keep the order in which they are stored.

    Raises Invalid for a cursor of another search.
    """
    lists = _pairs(reading, token_id) | _stored(reading, token_id)
    roles = [RoleCount(role=name, neurons=found.size) for name, found in lists.items()]
    current: Role = role or (roles[0].role if roles else "peak")
    sort = sort or default_sort(current)
    begin = 0
    if cursor is not None:
        *its_search, begin = cursors.decode(cursor, int, str, str, str, int)
        if its_search != [token_id, current, sort, order] or begin < 0:
            raise Invalid("The cursor belongs to another search: start again without it.")
    items: list[TokenNeuron] = []
    more = None
    if current in lists:
        neurons, values, counts = lists[current].unpacked()
        page = _order(reading, neurons, values, counts, sort, order)[begin : begin + limit]
        items = _items(
            reading,
            neurons[page].tolist(),
            values[page].tolist(),
            None if counts is None else counts[page].tolist(),
        )
        if begin + limit < len(neurons):
            more = cursors.encode(token_id, current, sort, order, begin + limit)
    return TokenSearch(
        model=reading.run.model,
        run=run_ref(reading.run),
        token=reading.vocabulary[token_id],
        token_id=token_id,
        role=current,
        roles=roles,
        sort=sort,
        order=order,
        alike=_similar(reading, token_id),
        items=items,
        next=more,
    )


def default_sort(role: Role) -> TokenSort:
    """What the neurons of a token are sorted by unless a request says otherwise."""
    return "count" if role == "peak" else "value"


@dataclass(frozen=True, slots=True)
class _List:
    """The neurons to which a token has one role."""

    size: int
    unpacked: Callable[[], tuple[Array, Array, Array | None]]
    """Indices over all layers, values, and counts if there are any: [size] each, in order."""


def _pairs(reading: Reading, token_id: int) -> dict[str, _List]:
    """The heads in whose largest pairs the token is, by what it is there."""
    found, heads = {}, pair_tokens(reading)
    for role in PAIR_ROLES:
        if pairs := heads.get((token_id, role)):
            found[role] = _List(len(pairs), partial(_in_pairs, pairs))
    return found


def _in_pairs(pairs: list[tuple[int, int]]) -> tuple[Array, Array, None]:
    indices, counts = zip(*pairs, strict=True)
    return np.array(indices), np.array(counts, np.float32), None


def _stored(reading: Reading, token_id: int) -> dict[str, _List]:
    """The token's lists as the run stores them. Raises Damaged."""
    return {
        schema.ROLES[row.role]: _List(
            row.neurons, partial(unpack_token, bytes(row.packed), row.neurons)
        )
        for row in _lists(reading, token_id)
    }


def _order(
    reading: Reading,
    neurons: Array,
    values: Array,
    counts: Array | None,
    sort: TokenSort,
    order: Order,
) -> Array:
    """The order of a token's neurons as indices into `neurons`, `values` and `counts` [n]."""
    # Without counts they are stored by their values, the suppressed ones from the lowest.
    if counts is None and sort in ("value", "count"):
        places = np.arange(len(neurons))
        return places if order == "desc" else places[::-1]
    keys: Array = values if sort == "value" else neurons
    if sort == "count" and counts is not None:
        keys = counts
    elif sort not in ("value", "neuron"):
        layers = range(len(reading.run.widths))
        keys = columns(reading.connection, reading.run, [sort], layers)[sort][neurons]
    return np.argsort(-keys.astype(np.float64) if order == "desc" else keys, kind="stable")


def _lists(reading: Reading, token_id: int) -> list[Row[Any]]:
    """The token's rows, in order of role. Raises Damaged, also if one is missing."""
    parameters = {"run_id": reading.run.id, "token_id": token_id}
    found = _COVER.check(reading.connection.execute(_LISTS, parameters).all())
    own = [row for row in found if row.token_id == token_id]
    keys = [schema.token_key(row.token_id, row.role) for row in own]
    # Every row names the one before it, and the run names the last.
    before = [row.previous for row in found[: len(own) + 1]]
    if len(found) == len(own):
        before.append(reading.run.last_token)
    if before[0] >= schema.token_key(token_id, 0) or before[1:] != keys:
        raise missing(_TABLE, run_id=reading.run.id, token_id=token_id, role="of some")
    return own


def _items(
    reading: Reading, indices: list[int], values: list[float], counts: list[int] | None
) -> list[TokenNeuron]:
    rows, texts = rows_of(reading, indices), reading.vocabulary
    known_counts: Sequence[int | None] = counts or [None] * len(indices)
    items = []
    for index, value, count in zip(indices, values, known_counts, strict=True):
        row = rows[index]
        items.append(
            TokenNeuron(
                layer=row.layer,
                neuron=row.neuron,
                name=name_at(reading, row.layer, row.neuron),
                value=value,
                count=count,
                max=row.max,
                density=row.density,
                dead=row.dead,
                peak_token=text_of(texts, row.peak_token_id),
                promoted_token=promoted_token(row, texts),
            )
        )
    return items


def _similar(reading: Reading, token_id: int) -> list[Token]:
    """The tokens that differ from this one only by case or a leading space."""
    bare = reading.vocabulary[token_id].removeprefix(" ")
    spellings = {
        space + word
        for space in ("", " ")
        for word in (bare, bare.lower(), bare.upper(), bare.capitalize())
    }
    ids = {other for text in spellings for other in reading.token_index.ids(text)} - {token_id}
    return [Token(token=reading.vocabulary[other], token_id=other) for other in sorted(ids)]
