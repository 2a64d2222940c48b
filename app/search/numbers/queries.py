"""Searching a run by number: whole columns out of the store, filtered and sorted here, then the
rows of one page. Apart since no index could serve every mixture of conditions and orders."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, select

from app.drawing.quoting import printable
from app.errors import Invalid
from app.reading import cursors
from app.reading.columns import Column, columns
from app.reading.neurons import neuron_row
from app.schemas import Order
from app.search.numbers.grammar import GrammarError, Query, source_word
from app.search.numbers.schemas import NumberRow
from indexer.store import schema

Places = NDArray[np.int64]

_SIGNS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
}
_NAMED = 5
"""Sources that an error names."""
_LONGEST_NAME = 40


@dataclass(frozen=True)
class NumberFacts:
    """What was found: fields of `NumberSearch`."""

    query: str
    sort: str
    order: Order
    total: int
    items: list[NumberRow]
    next: str | None


def search(
    connection: Connection,
    run: Row[Any],
    vocabulary: list[str],
    query: Query,
    limit: int,
    cursor: str | None,
) -> NumberFacts:
    """One page of a run's neurons that are as `query` asks, in its order, ties by their place.

    A neuron of which a compared or sorted statistic is not known is not among them. Raises
    GrammarError for a layer or source that the run has not, Invalid for a cursor of another order.
    """
    source = _source(run, query)
    flats, known = _columns(connection, run, query)
    found = np.ones(len(flats), bool)
    for name in query.asked:
        found &= np.isfinite(known[name])  # −inf stands for "it never varied"
    for one in query.comparisons:
        found &= _SIGNS[one.sign](known[one.name], one.value)
    if query.dead is not None:
        found &= (known["dead"] != 0) == query.dead
    if source is not None:
        found &= known["top_source"] == source
    order = query.order
    values = flats.astype(np.float64) if order.name == "neuron" else known[order.name]
    flats, values = flats[found], values[found]
    # Sorted upwards by value or by its negative: either way the earlier of equals comes first.
    sign = -1.0 if order.descending else 1.0
    after = None if cursor is None else _after(run, query, cursor)
    at = _page(flats, sign * values, limit + 1, after and (sign * after[0], after[1]))
    more = None
    if len(at) > limit:
        at = at[:limit]
        last = at[-1]
        more = cursors.encode(*_belongs_to(run, query), float(values[last]), int(flats[last]))
    return NumberFacts(
        query=str(query),
        sort=order.name,
        order="desc" if order.descending else "asc",
        total=len(flats),
        items=_rows(connection, run, vocabulary, flats[at].tolist()),
        next=more,
    )


def _source(run: Row[Any], query: Query) -> int | None:
    """The index of the source asked for. Raises GrammarError."""
    if query.source is None:
        return None
    if query.source in run.sources:
        return int(run.sources.index(query.source))
    if not any(run.sources):
        message = "this run has no sources"
    else:
        names = [_short(source_word(name)) for name in run.sources[:_NAMED]]
        more = f" and {len(run.sources) - _NAMED:,} more" if len(run.sources) > _NAMED else ""
        message = f"there is no such source in this run; there are {', '.join(names)}{more}"
    raise GrammarError(query.text, query.source_at, message)


def _short(name: str) -> str:
    return printable(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…")


def _layers(run: Row[Any], query: Query) -> list[int]:
    """The layers a query goes over. Raises GrammarError."""
    n_layers = len(run.widths)
    if not query.layers:
        return list(range(n_layers))
    if query.layers[-1][1] >= n_layers:
        missing = max(query.layers[-1][0], n_layers)
        message = f"there is no layer {missing}; this run has layers 0 to {n_layers - 1}"
        raise GrammarError(query.text, query.layers_at, message)
    return [layer for first, last in query.layers for layer in range(first, last + 1)]


def _columns(
    connection: Connection, run: Row[Any], query: Query
) -> tuple[Places, dict[str, Column]]:
    """The neurons a query goes over, by their index in the run, and their columns it needs."""
    layers = _layers(run, query)
    begins = np.cumsum([0, *run.widths])
    flats = np.concatenate([np.arange(begins[layer], begins[layer + 1]) for layer in layers])
    names = list(query.asked)
    names += ["dead"] if query.dead is not None else []
    names += ["top_source"] if query.source is not None else []
    return flats, columns(connection, run, names, layers)


def _page(flats: Places, keys: Column, count: int, after: tuple[float, int] | None) -> Places:
    """Indices of the first `count` by (key, place) that come after a pair of these; upwards."""
    at = np.arange(len(flats))
    if after is not None:
        key, place = after
        at = np.flatnonzero((keys > key) | ((keys == key) & (flats > place)))
    if len(at) > count:
        # A page is sorted, not the model: nothing above the last value of the page is looked at.
        last = np.partition(keys[at], count - 1)[count - 1]
        at = at[keys[at] <= last]
    return at[np.argsort(keys[at], kind="stable")][:count]


def _belongs_to(run: Row[Any], query: Query) -> tuple[str, str, int]:
    """What a cursor is good for: an order of a run. Conditions may change under it."""
    return query.order.name, "desc" if query.order.descending else "asc", run.id


def _after(run: Row[Any], query: Query, cursor: str) -> tuple[float, int]:
    """Value and place of the last neuron of the page before. Raises Invalid."""
    *told, value, flat = cursors.decode(cursor, str, str, int, float, int)
    if tuple(told) != _belongs_to(run, query):
        raise Invalid("The cursor belongs to another order or run: start again without it.")
    if not math.isfinite(value) or not 0 <= flat < sum(run.widths):
        raise Invalid("The cursor is not one this server gave: start again without it.")
    return value, flat


def _rows(
    connection: Connection, run: Row[Any], vocabulary: list[str], flats: list[int]
) -> list[NumberRow]:
    """The rows of a page, in its order."""
    if not flats:
        return []
    table = schema.neurons
    keys = [schema.neuron_key(run.id, flat) for flat in flats]
    rows = {row.id: row for row in connection.execute(select(table).where(table.c.id.in_(keys)))}
    return [_row(rows[key], run, vocabulary) for key in keys]


def _row(row: Row[Any], run: Row[Any], vocabulary: list[str]) -> NumberRow:
    return NumberRow(
        **vars(neuron_row(row, vocabulary)),
        density_over_tenth=row.density_over_tenth,
        in_out_cosine=row.in_out_cosine,
        gate_out_cosine=row.gate_out_cosine,
        top_source=None if row.top_source < 0 else run.sources[row.top_source],
    )
