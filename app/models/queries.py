"""Reads models and layers: summaries, sorted lists of neurons, and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, Select, select, tuple_

from app.errors import Invalid, NotFound
from app.models import picture as drawing
from app.models import plot
from app.models.gallery import SIZE, cut
from app.models.gallery import gallery as choose
from app.models.schemas import (
    Gallery,
    LayerDot,
    LayerPage,
    LayerPicture,
    LayerScatter,
    LayerSummary,
    ModelList,
    ModelPage,
    ModelSummary,
    NeuronList,
    PictureStatistic,
    ScatterStatistic,
    SetSummary,
    Sort,
)
from app.reading import cursors
from app.reading.columns import columns, finite
from app.reading.neurons import NEURONS, neuron_row
from app.reading.runs import MAX_INTEGER, has_layer, model_names, run_ref, sample_of, with_units
from app.reading.store import Reading, Store
from app.reading.unit_names import name_at
from app.reading.vocabulary import text_of
from app.schemas import Order
from indexer.store import schema
from indexer.store.checksums import cover, missing
from indexer.store.packing.codec import LAYER_ARRAYS, unpack_arrays
from indexer.store.units import HEADS, Units

LABELLED = 14
"""The most neurons of a scatter plot that carry their token."""
_LAYERS = cover(schema.layers)


def models(store: Store, limit: int, cursor: str | None) -> ModelList:
    """A page of the models, by name. Raises Invalid for an invalid cursor."""
    with store.connect() as connection:
        on_page, more = _names(connection, limit, cursor)
        items = [_model_summary(store.open(connection, name, None)) for name in on_page]
    return ModelList(items=items, next=cursors.encode(on_page[-1]) if more else None)


def names(store: Store, limit: int, cursor: str | None) -> list[str]:
    """The names of a page of the models. Raises Invalid for an invalid cursor."""
    with store.connect() as connection:
        return _names(connection, limit, cursor)[0]


def _names(connection: Connection, limit: int, cursor: str | None) -> tuple[list[str], bool]:
    """Also whether there are more."""
    after = "" if cursor is None else cursors.decode(cursor, str)[0]
    rest = [name for name in model_names(connection) if name > after]
    return rest[:limit], len(rest) > limit


def model(reading: Reading) -> ModelPage:
    """A model with its layers."""
    return ModelPage(
        model=reading.run.model,
        n_layers=len(reading.run.widths),
        n_neurons=len(reading.places),
        run=run_ref(reading.run),
        sample=sample_of(reading.run),
        layers=_summaries(reading.connection, reading.run),
        sets=_sets(reading),
        other_runs=[run_ref(other) for other in reading.others],
    )


def sets(store: Store, names: Sequence[str]) -> dict[str, list[SetSummary]]:
    """The sets of units of each of the models, the default set first."""
    with store.connect() as connection:
        return {name: _sets(store.open(connection, name, None)) for name in names}


def _sets(reading: Reading) -> list[SetSummary]:
    return [
        SetSummary(n_layers=len(run.widths), n_units=sum(run.widths), run=run_ref(run))
        for run in reading.sets
    ]


def gallery(reading: Reading) -> Gallery:
    """The gallery of a run, computed once."""
    return reading.derived.of("gallery", reading.run, compute=lambda: choose(reading))


def galleries(store: Store, models: Sequence[str]) -> list[Gallery]:
    """The galleries of several models' default runs, each cut so that all together have as many
    neurons as one; models beyond that number are left out, and those of which only attention heads
    are indexed."""
    with store.connect() as connection:
        readings = [store.open(connection, name, None) for name in models[:SIZE]]
        whole = [gallery(reading) for reading in readings if reading.run.set_name != HEADS]
    return [cut(one, SIZE // len(whole)) for one in whole]


def layer(
    reading: Reading,
    layer: int,
    sort: Sort,
    order: Order,
    limit: int,
    cursor: str | None,
) -> LayerPage:
    """A layer with a page of its neurons. Raises NotFound, and Invalid for a cursor of another
    order."""
    reading.check_layer(layer)
    return LayerPage(
        model=reading.run.model,
        hook_point=reading.run.hook_point,
        run=run_ref(reading.run),
        sample=sample_of(reading.run),
        summary=_summary_of(reading.connection, reading.run, layer),
        n_layers=len(reading.run.widths),
        sort=sort,
        order=order,
        neurons=_neurons(reading, layer, sort, order, limit, cursor),
        other_runs=[
            run_ref(other)
            for other in reading.others
            if has_layer(other, layer) and other.widths[layer]
        ],
    )


def picture(reading: Reading, layer: int, stat: PictureStatistic, first: int) -> LayerPicture:
    """A statistic of a layer's neurons from `first` on, at most `drawing.MOST_NEURONS`; the cuts
    between colours are of the whole layer. Raises NotFound if the layer ends before `first`."""
    reading.check_layer(layer)
    width = reading.run.widths[layer]
    if first >= width:
        raise NotFound(
            f"Layer {layer} of {reading.run.model} has {reading.units.noun}s 0 to {width - 1}: "
            f"a picture cannot begin at {first}."
        )
    known = columns(reading.connection, reading.run, (stat, "dead", "peak_token_id"), [layer])
    values, dead = known[stat], known["dead"] != 0
    live = np.isfinite(values) & ~dead  # −inf: logit effects are constant
    ranked = np.sort(values[live])
    part = slice(first, first + drawing.MOST_NEURONS)
    tokens = known["peak_token_id"][part]
    return LayerPicture(
        model=reading.run.model,
        layer=layer,
        hook_point=reading.run.hook_point,
        run=run_ref(reading.run),
        sample=sample_of(reading.run),
        stat=stat,
        neurons=width,
        first=first,
        values=list(map(finite, values[part].tolist())),
        dead=dead[part].tolist(),
        peak_tokens=[text_of(reading.vocabulary, token_id) for token_id in tokens.tolist()],
        n_dead=int(dead.sum()),
        counted=len(ranked),
        lowest=float(ranked[0]) if len(ranked) else None,
        highest=float(ranked[-1]) if len(ranked) else None,
        highest_neuron=(int(np.argmax(np.where(live, values, -np.inf))) if len(ranked) else None),
        cuts=drawing.cuts(ranked.tolist()),
    )


def scatter(
    reading: Reading, layer: int, x: ScatterStatistic, y: ScatterStatistic, first: int
) -> LayerScatter:
    """Two statistics of a layer's live neurons from `first` on, of at most `drawing.MOST_NEURONS`.
    Raises NotFound if the layer ends before `first`."""
    reading.check_layer(layer)
    run, width = reading.run, reading.run.widths[layer]
    if first >= width:
        noun = Units.of(run.units).noun
        raise NotFound(
            f"Layer {layer} of {run.model} has {noun}s 0 to {width - 1}: a plot cannot begin at "
            f"{first}."
        )
    names = {x, y, "dead", "top_source", "peak_token_id"}
    known = columns(reading.connection, run, names, [layer])
    part = slice(first, first + drawing.MOST_NEURONS)
    lists = (known[name][part].tolist() for name in (x, y, "dead", "top_source", "peak_token_id"))
    dots = [
        LayerDot(
            neuron=neuron,
            name=name_at(reading, layer, neuron),
            x=finite(across),
            y=finite(up),
            source=int(source) if source >= 0 else None,
            peak_token=reading.vocabulary[int(token_id)],
        )
        for neuron, (across, up, dead, source, token_id) in enumerate(
            zip(*lists, strict=True), first
        )
        if not dead
    ]
    return LayerScatter(
        model=run.model,
        layer=layer,
        hook_point=run.hook_point,
        run=run_ref(run),
        sample=sample_of(run),
        x=x,
        y=y,
        sources=run.sources,
        neurons=width,
        n_dead=int((known["dead"] != 0).sum()),
        first=first,
        dots=dots,
        outliers=plot.outliers(dots, (x, y), LABELLED),
    )


def _model_summary(reading: Reading) -> ModelSummary:
    return ModelSummary(
        model=reading.run.model,
        n_layers=len(reading.run.widths),
        n_neurons=len(reading.places),
        runs=1 + len(reading.others),
        run=run_ref(reading.run),
    )


def _summaries(connection: Connection, run: Row[Any]) -> list[LayerSummary]:
    table = schema.layers
    query = select(*_LAYERS.selected).where(table.c.run_id == run.id).order_by(table.c.layer)
    rows = _LAYERS.check(connection.execute(query).all())
    for layer in set(with_units(run)) - {row.layer for row in rows}:
        raise missing(table, run_id=run.id, layer=layer)
    return [_summary(row) for row in rows]


def _summary_of(connection: Connection, run: Row[Any], layer: int) -> LayerSummary:
    table = schema.layers
    query = select(*_LAYERS.selected).where(table.c.run_id == run.id, table.c.layer == layer)
    rows = _LAYERS.check(connection.execute(query).all())
    if not rows:
        raise missing(table, run_id=run.id, layer=layer)
    return _summary(rows[0])


def _neurons(
    reading: Reading, layer: int, sort: Sort, order: Order, limit: int, cursor: str | None
) -> NeuronList:
    after = None if cursor is None else _after(sort, order, cursor)
    query = _neurons_of(reading.run.id, layer, sort, order, limit, after)
    rows = NEURONS.check(reading.connection.execute(query).all())
    _check_complete(reading, layer, sort, order, limit, after, rows)
    more = None
    if len(rows) > limit:
        last = rows[limit - 1]
        key = [last.neuron] if sort == "neuron" else [getattr(last, sort), last.neuron]
        more = cursors.encode(sort, order, *key)
    items = [neuron_row(row, reading) for row in rows[:limit]]
    return NeuronList(items=items, next=more)


def _summary(row: Row[Any]) -> LayerSummary:
    quantiles = unpack_arrays(bytes(row.arrays), LAYER_ARRAYS)
    return LayerSummary(
        layer=row.layer,
        neurons=row.neurons,
        dead=row.dead,
        max=row.max,
        mean_max=row.mean_max,
        mean_density=row.mean_density,
        max_quantiles=quantiles["max_quantiles"].tolist(),
        density_quantiles=quantiles["density_quantiles"].tolist(),
    )


def _after(sort: Sort, order: Order, cursor: str) -> list[Any]:
    """The sort key of the last neuron of the previous page. Raises Invalid."""
    kinds = [int] if sort == "neuron" else [float, int]
    its_sort, its_order, *after = cursors.decode(cursor, str, str, *kinds)
    if (its_sort, its_order) != (sort, order) or not 0 <= after[-1] <= MAX_INTEGER:
        raise Invalid("The cursor belongs to another order: start again without it.")
    if math.isnan(after[0]):  # which databases sort, and numpy does not
        raise Invalid(cursors.BAD_CURSOR)
    return after


def _neurons_of(
    run_id: int, layer: int, sort: Sort, order: Order, limit: int, after: list[Any] | None
) -> Select[Any]:
    """The query for a page of a layer's neurons and one more row. It seeks by key, since OFFSET
    would read all earlier rows."""
    table = schema.neurons
    query = select(*NEURONS.selected).where(table.c.run_id == run_id, table.c.layer == layer)
    keys = [table.c.neuron] if sort == "neuron" else [table.c[sort], table.c.neuron]
    if after is not None:
        key = tuple_(*keys)
        query = query.where(key < tuple_(*after) if order == "desc" else key > tuple_(*after))
    ordered = [column.desc() if order == "desc" else column.asc() for column in keys]
    return query.order_by(*ordered).limit(limit + 1)


def _check_complete(
    reading: Reading,
    layer: int,
    sort: Sort,
    order: Order,
    limit: int,
    after: list[Any] | None,
    rows: Sequence[Row[Any]],
) -> None:
    """Raises Damaged if a neuron is not among a page's rows that should be: one whose row is
    missing, or that damage has moved to another place in the order. The layer's column of `sort`,
    which has a checksum of its own, says which neurons belong on the page."""
    neurons = np.arange(reading.run.widths[layer])
    values = neurons.astype(np.float64)
    if sort != "neuron":
        values = columns(reading.connection, reading.run, (sort,), [layer])[sort]
    sign = -1.0 if order == "desc" else 1.0
    keys, ids = sign * values, sign * neurons

    def beyond(value: float, neuron: int) -> NDArray[np.bool_]:
        """Whether each neuron [width] comes after the neuron with this value in the order."""
        later: NDArray[np.bool_] = (keys > sign * value) | (
            (keys == sign * value) & (ids > sign * neuron)
        )
        return later

    wanted = np.ones(len(neurons), np.bool_)
    if after is not None:
        wanted &= beyond(float(after[0]), after[-1])
    if len(rows) > limit:
        last = rows[-1]
        wanted &= ~beyond(float(getattr(last, sort)), last.neuron)
    wrong = set(neurons[wanted].tolist()) ^ {row.neuron for row in rows}
    for neuron in sorted(wrong):
        key = schema.neuron_key(reading.run.id, reading.places.index(layer, neuron))
        raise missing(schema.neurons, id=key)
