"""Searches by statistics: reads whole columns, filters and sorts them, then reads a page of rows.

No database index could serve every combination of conditions and orders.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row

from app.drawing.quoting import printable, shortened
from app.errors import Invalid
from app.reading import cursors, packed
from app.reading.columns import Column, columns
from app.reading.neurons import neuron_row, rows_of
from app.reading.runs import whole_run
from app.reading.statistics import HEAD_STATISTICS, HEADS_SHOWN, STATISTICS
from app.reading.store import Reading
from app.schemas import NeuronRef
from app.search.numbers.grammar import ALL, GrammarError, Query, Span, selected_source, source_word
from app.search.numbers.schemas import NumberRow, NumberSearch
from indexer.store.sizes import SOURCE_SLOTS
from indexer.store.units import HEADS

Indices = NDArray[np.int64]
"""Indices of neurons over all layers."""

_SIGNS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
}
_NAMED = 5
"""The most sources that an error names."""
_LONGEST_NAME = 40
"""The most characters of their names."""


def matching(reading: Reading, query: Query) -> Indices:
    """The indices of all neurons that match a query, in its order. Raises GrammarError."""
    indices, keys, _ = _matches(reading, query)
    return indices[np.argsort(keys, kind="stable")]


def search(reading: Reading, query: Query, limit: int, cursor: str | None) -> NumberSearch:
    """A page of a run's neurons that match a query, in its order, ties by layer and neuron.

    Neurons with no value for a compared or sorted statistic are left out. Raises GrammarError for
    a layer or source that the run does not have, Invalid for a cursor of another order.
    """
    run, order = reading.run, query.order
    indices, keys, computed = _matches(reading, query)
    sign = _sign(query)
    after = None if cursor is None else _after(reading, query, cursor)
    at = _page(indices, keys, limit + 1, after and (sign * after[0], after[1]))
    more = None
    if len(at) > limit:
        at = at[:limit]
        last = at[-1]
        more = cursors.encode(*_order_of(run, query), float(sign * keys[last]), int(indices[last]))
    return NumberSearch(
        **dict(whole_run(run)),
        query=str(query),
        sort=order.name,
        order="desc" if order.descending else "asc",
        total=len(indices),
        items=_page_rows(
            reading,
            query,
            indices[at].tolist(),
            {name: values[at].tolist() for name, values in computed.items()},
        ),
        next=more,
    )


def _matches(reading: Reading, query: Query) -> tuple[Indices, Column, dict[str, Column]]:
    """The indices of the neurons that match, their sort keys, and the values of the query's
    statistics that neurons do not store, by name. Keys of descending orders are negated, so that
    the earlier of equals always comes first. Raises GrammarError."""
    source = _source(reading.run, query)
    _check_scores(reading.run, query)
    indices, known = _columns(reading, query)
    matches = np.ones(len(indices), bool)
    for name in query.statistics:
        matches &= np.isfinite(known[name])  # −inf: constant, so without a value
    for comparison in query.comparisons:
        matches &= _SIGNS[comparison.sign](known[comparison.name], comparison.value)
    if query.only_dead is not None:
        matches &= (known["dead"] != 0) == query.only_dead
    if source is not None:
        matches &= known["top_source"] == source
    name = query.order.name
    values = indices.astype(np.float64) if name == "neuron" else known[name]
    computed = {name: known[name][matches] for name in query.statistics if name not in STATISTICS}
    return indices[matches], _sign(query) * values[matches], computed


def _sign(query: Query) -> float:
    return -1.0 if query.order.descending else 1.0


def _check_scores(run: Row[Any], query: Query) -> None:
    """Raises GrammarError for a score of attention heads in a run of other units."""
    asked = [name for name in query.statistics if name in HEAD_STATISTICS]
    if asked and run.set_name != HEADS:
        message = f"only attention heads have {asked[0]}; this run is of {run.set_name}"
        raise GrammarError(query.text, (0, len(query.text)), message)


def _source(run: Row[Any], query: Query) -> int | None:
    """The index of the query's source. Raises GrammarError."""
    if query.source is None:
        return None
    return _index_of(run, query, query.source, query.source_at)


def _index_of(run: Row[Any], query: Query, source: str, span: Span) -> int:
    """The index of a source by its name, at `span` of the query. Raises GrammarError."""
    if source in run.sources:
        return int(run.sources.index(source))
    if not any(run.sources):
        message = "this run has no sources"
    else:
        words = map(source_word, run.sources[:_NAMED])
        names = [printable(shortened(word, _LONGEST_NAME)) for word in words]
        more = f" and {len(run.sources) - _NAMED:,} more" if len(run.sources) > _NAMED else ""
        message = f"this run has no such source; its sources are {', '.join(names)}{more}"
    raise GrammarError(query.text, span, message)


def _layers(run: Row[Any], query: Query) -> list[int]:
    """The layers that a query covers. Raises GrammarError."""
    n_layers = len(run.widths)
    if not query.layers:
        return list(range(n_layers))
    if query.layers[-1][1] >= n_layers:
        missing = max(query.layers[-1][0], n_layers)
        message = f"there is no layer {missing}; this run has layers 0 to {n_layers - 1}"
        raise GrammarError(query.text, query.layers_at, message)
    return [layer for first, last in query.layers for layer in range(first, last + 1)]


def _columns(reading: Reading, query: Query) -> tuple[Indices, dict[str, Column]]:
    """The indices of the neurons that a query covers, and the columns it needs."""
    layers, first = _layers(reading.run, query), reading.places.offsets
    indices = np.concatenate([np.arange(first[layer], first[layer + 1]) for layer in layers])
    names = [name for name in query.statistics if name in ALL]
    names += ["dead"] if query.only_dead is not None else []
    names += ["top_source"] if query.source is not None else []
    known = columns(reading.connection, reading.run, names, layers)
    for name in query.statistics:
        if name == packed.ALIKE:
            known[name] = packed.alike(reading, layers)
        elif (source := selected_source(name)) is not None:
            slot = _slot(reading.run, query, name, source)
            known[name] = packed.selectivity(reading, slot, layers)
    return indices, known


def _slot(run: Row[Any], query: Query, name: str, source: str) -> int:
    """The index of a source whose mean peaks are known. Raises GrammarError."""
    at = query.text.lower().find("selectivity(")
    span = (at, at + len(name))
    slot = _index_of(run, query, source, span)
    if slot >= SOURCE_SLOTS and len(run.sources) > SOURCE_SLOTS + 1:
        message = f"only the run's first {SOURCE_SLOTS} sources have mean peaks of their own"
        raise GrammarError(query.text, span, message)
    return slot


def _page(indices: Indices, keys: Column, count: int, after: tuple[float, int] | None) -> Indices:
    """The places in `indices` of the first `count` neurons by (key, index) after `after`."""
    at = np.arange(len(indices))
    if after is not None:
        key, index = after
        at = np.flatnonzero((keys > key) | ((keys == key) & (indices > index)))
    if len(at) > count:
        # Drop everything above the page's last value first, to sort a page and not the whole model.
        last = np.partition(keys[at], count - 1)[count - 1]
        at = at[keys[at] <= last]
    return at[np.argsort(keys[at], kind="stable")][:count]


def _order_of(run: Row[Any], query: Query) -> tuple[str, str, int]:
    """What a cursor belongs to: the order and the run, but not the conditions."""
    return query.order.name, "desc" if query.order.descending else "asc", run.id


def _after(reading: Reading, query: Query, cursor: str) -> tuple[float, int]:
    """Value and index of the last neuron of the previous page. Raises Invalid."""
    *its_order, value, index = cursors.decode(cursor, str, str, int, float, int)
    if tuple(its_order) != _order_of(reading.run, query):
        raise Invalid("The cursor belongs to another order or run: start again without it.")
    if not math.isfinite(value) or not 0 <= index < len(reading.places):
        raise Invalid(cursors.BAD_CURSOR)
    return value, index


def rows(reading: Reading, indices: list[int]) -> list[NumberRow]:
    """The rows of neurons by index over all layers, in the given order."""
    known = rows_of(reading, indices)
    return [_row(known[index], reading, {}, None) for index in indices]


def _page_rows(
    reading: Reading, query: Query, indices: list[int], computed: dict[str, list[float]]
) -> list[NumberRow]:
    """The rows of a page, in its order; `computed` are the values of the query's statistics that
    neurons do not store."""
    known = rows_of(reading, indices)
    if reading.run.set_name == HEADS:
        computed = _shown_scores(reading, indices) | computed
    partners = packed.partners(reading, indices) if packed.ALIKE in query.statistics else {}
    return [
        _row(
            known[index],
            reading,
            {
                name: values[place]
                for name, values in computed.items()
                if math.isfinite(values[place])
            },
            partners.get(index),
        )
        for place, index in enumerate(indices)
    ]


def _shown_scores(reading: Reading, indices: list[int]) -> dict[str, list[float]]:
    """The scores that lists of heads always show; not a number where a head has none."""
    layers = range(len(reading.run.widths))
    known = columns(reading.connection, reading.run, HEADS_SHOWN, layers)
    return {name: values[indices].tolist() for name, values in known.items()}


def _row(
    row: Row[Any], reading: Reading, computed: dict[str, float], partner: int | None
) -> NumberRow:
    place = None if partner is None else reading.places.of(partner)
    return NumberRow(
        computed=computed,
        partner=None if place is None else NeuronRef(layer=place[0], neuron=place[1]),
        **dict(neuron_row(row, reading)),
        density_over_tenth=row.density_over_tenth,
        in_out_cosine=row.in_out_cosine,
        gate_out_cosine=row.gate_out_cosine,
        top_source=None if row.top_source < 0 else reading.run.sources[row.top_source],
    )
