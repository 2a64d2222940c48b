"""Reading layers: in summary, as a list of neurons in any order, and all neurons at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, Select, select, tuple_

from app.errors import Invalid, NotFound
from app.models import picture
from app.models.schemas import LayerSummary, ModelSummary, NeuronList, Sort, Statistic
from app.reading import cursors
from app.reading import runs as run_query
from app.reading.columns import columns, finite
from app.reading.neurons import ROW_COLUMNS, neuron_row
from app.reading.runs import MAX_INTEGER, run_ref
from app.schemas import Order
from indexer.store import schema
from indexer.store.packing.codec import LAYER_ARRAYS, unpack_arrays


@dataclass(frozen=True)
class PictureFacts:
    """What the store knows for a layer's picture: fields of `LayerPicture`."""

    neurons: int
    first: int
    values: list[float | None]
    dead: list[bool]
    peak_tokens: list[str]
    n_dead: int
    counted: int
    lowest: float | None
    highest: float | None
    highest_neuron: int | None
    cuts: list[float]


def summaries(connection: Connection, run: Row[Any]) -> list[LayerSummary]:
    """All layers of a run in numbers."""
    table = schema.layers
    wanted = select(table).where(table.c.run_id == run.id).order_by(table.c.layer)
    return [_summary(row) for row in connection.execute(wanted)]


def summary(connection: Connection, run: Row[Any], layer: int) -> LayerSummary:
    """One layer of a run, which must have it, in numbers."""
    table = schema.layers
    wanted = select(table).where(table.c.run_id == run.id, table.c.layer == layer)
    return _summary(connection.execute(wanted).one())


def neurons(
    connection: Connection,
    run: Row[Any],
    layer: int,
    vocabulary: list[str],
    sort: Sort,
    order: Order,
    limit: int,
    cursor: str | None,
) -> NeuronList:
    """One page of a layer's neurons. Raises Invalid for a cursor of another order."""
    rows = connection.execute(_neurons_of(run.id, layer, sort, order, limit, cursor)).all()
    more = None
    if len(rows) > limit:
        last = rows[limit - 1]
        key = [last.neuron] if sort == "neuron" else [getattr(last, sort), last.neuron]
        more = cursors.encode(sort, order, *key)
    return NeuronList(items=[neuron_row(row, vocabulary) for row in rows[:limit]], next=more)


def picture_facts(
    connection: Connection,
    run: Row[Any],
    layer: int,
    vocabulary: list[str],
    stat: Statistic,
    first: int,
) -> PictureFacts:
    """One statistic of the neurons from `first` on, `picture.AT_ONCE` at most.

    What parts the colours is of the whole layer. Raises NotFound where it ends before `first`.
    """
    width = run.widths[layer]
    if first >= width:
        raise NotFound(
            f"Layer {layer} of {run.model} has neurons 0 to {width - 1}: "
            f"no picture begins at {first}."
        )
    known = columns(connection, run, (stat, "dead", "peak_token_id"), [layer])
    values, dead = known[stat], known["dead"] != 0
    living = np.isfinite(values) & ~dead  # −inf stands for "it never varied"
    ranked = np.sort(values[living])
    shown = slice(first, first + picture.AT_ONCE)
    return PictureFacts(
        neurons=width,
        first=first,
        values=list(map(finite, values[shown].tolist())),
        dead=dead[shown].tolist(),
        peak_tokens=[vocabulary[int(token_id)] for token_id in known["peak_token_id"][shown]],
        n_dead=int(dead.sum()),
        counted=len(ranked),
        lowest=float(ranked[0]) if len(ranked) else None,
        highest=float(ranked[-1]) if len(ranked) else None,
        highest_neuron=int(np.argmax(np.where(living, values, -np.inf))) if len(ranked) else None,
        cuts=picture.cuts(ranked.tolist()),
    )


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


def _neurons_of(
    run_id: int, layer: int, sort: Sort, order: Order, limit: int, cursor: str | None
) -> Select[Any]:
    """One page of a layer's neurons, sought by key: never OFFSET. One row more than `limit`."""
    table = schema.neurons
    wanted = select(*ROW_COLUMNS).where(table.c.run_id == run_id, table.c.layer == layer)
    keys = [table.c.neuron] if sort == "neuron" else [table.c[sort], table.c.neuron]
    if cursor is not None:
        kinds = [int] if sort == "neuron" else [float, int]
        told_sort, told_order, *after = cursors.decode(cursor, str, str, *kinds)
        if (told_sort, told_order) != (sort, order) or not 0 <= after[-1] <= MAX_INTEGER:
            raise Invalid("The cursor belongs to another order: start again without it.")
        mine = tuple_(*keys)
        wanted = wanted.where(mine < tuple_(*after) if order == "desc" else mine > tuple_(*after))
    ordered = [key.desc() if order == "desc" else key.asc() for key in keys]
    return wanted.order_by(*ordered).limit(limit + 1)


def model_summary(connection: Connection, name: str) -> ModelSummary:
    shown, others = run_query.pick(connection, name, None)
    return ModelSummary(
        model=name,
        n_layers=len(shown.widths),
        n_neurons=sum(shown.widths),
        runs=1 + len(others),
        run=run_ref(shown),
    )
