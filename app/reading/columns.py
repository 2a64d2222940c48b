"""Reads whole columns of neurons: a row of the store holds one statistic of a whole layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from sqlalchemy import Connection, Row, bindparam, select

from app.errors import Gone
from indexer.store import schema

Column = Float64[np.ndarray, " neurons"]

_TABLE = schema.neuron_columns
_PACKED = (
    select(_TABLE.c.name, _TABLE.c.packed)
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

    `layers` ascend; NaN stands for an unknown value. Raises Gone if the run was deleted meanwhile.
    """
    parts: dict[str, list[Column]] = {name: [] for name in names}
    if not parts:
        return {}
    # A run of an older version lacks statistics that were added since.
    known = parts.keys() - set(schema.LATER_COLUMNS)
    parameters = {"run_id": run.id, "names": list(parts), "layers": list(layers)}
    for name, packed in connection.execute(_PACKED, parameters):
        parts[name].append(np.frombuffer(packed, "<f8"))
    for name in parts.keys() - known:
        if not parts[name]:
            parts[name] = [np.full(run.widths[layer], np.nan) for layer in layers]
    present = sum(1 for layer in layers if run.widths[layer])  # a layer may have no units
    if any(len(by_layer) < present for by_layer in parts.values()):
        raise deleted(run)
    return {name: np.concatenate(by_layer or [np.empty(0)]) for name, by_layer in parts.items()}


def deleted(run: Row[Any]) -> Gone:
    """The error for a run that was deleted while it was being read."""
    return Gone(f"Run {run.id} was deleted while it was being read.")


def finite(value: float | None) -> float | None:
    """A number for JSON: None for −inf, which the store has for statistics of constant neurons."""
    return value if value is not None and math.isfinite(value) else None
