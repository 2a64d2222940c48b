"""Reading by token: which tokens there are, and the neurons that one has to do with."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, select

from app.errors import Invalid, NotFound
from app.reading import cursors
from app.reading.neurons import neurons_of
from app.reading.places import Places
from app.reading.runs import run_ref
from app.reading.store import Reading
from app.search.schemas import Role, RoleCount, Token, TokenNeuron, TokenSearch
from indexer.store import schema
from indexer.store.packing.postings import unpack_token

_LISTS = select(
    schema.token_neurons.c.role, schema.token_neurons.c.neurons, schema.token_neurons.c.packed
).where(
    schema.token_neurons.c.run_id == bindparam("run_id"),
    schema.token_neurons.c.token_id == bindparam("token_id"),
)


def tokens_like(reading: Reading, prefix: str, limit: int) -> list[Token]:
    """Tokens that begin with `prefix`, or with a space and it: the ones it is exactly first, then
    by id, which in most vocabularies is from the most common on."""
    found: set[int] = set()
    for begin in {prefix, " " + prefix}:
        found |= set(reading.index().starting_with(begin))
    exact = {prefix: 0, " " + prefix: 1}
    texts = reading.vocabulary
    ordered = sorted(found, key=lambda token_id: (exact.get(texts[token_id], 2), token_id))
    return [Token(token=texts[token_id], token_id=token_id) for token_id in ordered[:limit]]


def token_of(reading: Reading, token: str | None, token_id: int | None) -> int:
    """The id of a token by its exact text, or checked. Raises NotFound, Invalid."""
    if token_id is not None:
        if token_id >= len(reading.vocabulary):
            raise NotFound(
                f"{reading.run.model} has tokens 0 to {len(reading.vocabulary) - 1}: there is no "
                f"token {token_id}."
            )
        return token_id
    if not token:
        raise Invalid("No token is named: give `token`, its exact text, or `token_id`.")
    ids = reading.index().ids(token)
    if not ids:
        raise NotFound(
            f"No token of {reading.run.model} is exactly “{shortened(token)}”: spaces and capitals "
            "count."
        )
    return ids[0]


def shortened(text: str) -> str:
    """What was typed, short enough to be said back."""
    return text if len(text) <= 60 else text[:59] + "…"


def search(
    reading: Reading, token_id: int, role: Role | None, limit: int, cursor: str | None
) -> TokenSearch:
    """One page of the neurons that a token has to do with; by default in the first way there is."""
    parameters = {"run_id": reading.run.id, "token_id": token_id}
    rows = {row.role: row for row in reading.connection.execute(_LISTS, parameters)}
    roles = [
        RoleCount(role=name, neurons=rows[number].neurons)
        for number, name in enumerate(schema.ROLES)
        if number in rows
    ]
    shown: Role = role or (roles[0].role if roles else "peak")
    begin = 0
    if cursor is not None:
        told_id, told_role, begin = cursors.decode(cursor, int, str, int)
        if (told_id, told_role) != (token_id, shown) or begin < 0:
            raise Invalid("The cursor belongs to another search: start again without it.")
    row = rows.get(schema.ROLES.index(shown))
    items: list[TokenNeuron] = []
    more = None
    if row is not None:
        shown_here = slice(begin, begin + limit)
        neurons, values, counts = unpack_token(bytes(row.packed), row.neurons)
        items = _items(
            reading,
            neurons[shown_here].tolist(),
            values[shown_here].tolist(),
            None if counts is None else counts[shown_here].tolist(),
        )
        if begin + limit < row.neurons:
            more = cursors.encode(token_id, shown, begin + limit)
    return TokenSearch(
        model=reading.run.model,
        run=run_ref(reading.run),
        token=reading.vocabulary[token_id],
        token_id=token_id,
        role=shown,
        roles=roles,
        alike=_alike(reading, token_id),
        items=items,
        next=more,
    )


def _items(
    reading: Reading, flats: list[int], values: list[float], counts: list[int] | None
) -> list[TokenNeuron]:
    facts = neurons_of(reading, flats)
    place = Places(reading.run.widths)
    texts = reading.vocabulary
    found = []
    told: Sequence[int | None] = counts or [None] * len(flats)
    for flat, value, count in zip(flats, values, told, strict=True):
        row, (layer, neuron) = facts[flat], place.of(flat)
        found.append(
            TokenNeuron(
                layer=layer,
                neuron=neuron,
                value=value,
                count=count,
                max=row.max,
                density=row.density,
                dead=row.dead,
                peak_token=texts[row.peak_token_id],
                promoted_token=texts[row.promoted_token_id],
            )
        )
    return found


def _alike(reading: Reading, token_id: int) -> list[Token]:
    text = reading.vocabulary[token_id]
    bare = text.removeprefix(" ")
    spellings = {
        space + word
        for space in ("", " ")
        for word in (bare, bare.lower(), bare.upper(), bare.capitalize())
    }
    ids = {other for one in spellings for other in reading.index().ids(one)}
    return [Token(token=reading.vocabulary[one], token_id=one) for one in sorted(ids - {token_id})]
