"""Reads whole columns of neurons: a row of the store holds one statistic of a whole layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from sqlalchemy import Connection, Row, bindparam, select

from indexer.store import schema
from indexer.store.checksums import cover, missing

Column = Float64[np.ndarray, " neurons"]

_TABLE = schema.neuron_columns
_COVER = cover(_TABLE)
_PACKED = (
    select(*_COVER.selected)
    .where(
        _TABLE.c.run_id == bindparam("run_id"),
        _TABLE.c.name.in_(bindparam("names", expanding=True)),
        _TABLE.c.layer.in_(bindparam("layers", expanding=True)),
    )
    .order_by(_TABLE.c.layer)
)


def columns(
    connection: Connection, run: Row[Any], names: Iterable[str], layers: Sequence[int]
) -> dict[str, Column]:
    """The columns `names` (of `schema.COLUMNS`) by name, each over all neurons of `layers`.

    `layers` ascend; NaN stands for an unknown value. Raises Damaged.
    """
    parts: dict[str, list[Column]] = {name: [] for name in names}
    if not parts:
        return {}
    # A run of an older version lacks statistics that were added since.
    known = parts.keys() - set(schema.LATER_COLUMNS)
    parameters = {"run_id": run.id, "names": list(parts), "layers": list(layers)}
    rows = _COVER.check(connection.execute(_PACKED, parameters).all())
    for row in rows:
        parts[row.name].append(np.frombuffer(row.packed, "<f8"))
    for name in parts.keys() - known:
        if not parts[name]:
            parts[name] = [np.full(run.widths[layer], np.nan) for layer in layers]
    present = [layer for layer in layers if run.widths[layer]]  # a layer may have no units
    for name, by_layer in parts.items():
        if len(by_layer) < len(present):
            having = {row.layer for row in rows if row.name == name}
            layer = next(layer for layer in present if layer not in having)
            raise missing(_TABLE, run_id=run.id, name=name, layer=layer)
    return {name: np.concatenate(by_layer or [np.empty(0)]) for name, by_layer in parts.items()}


def finite(value: float | None) -> float | None:
    """A number for JSON: None for −inf, which the store has for statistics of constant neurons."""
    return value if value is not None and math.isfinite(value) else None
