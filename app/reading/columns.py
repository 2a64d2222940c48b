"""Reading whole columns of neurons: one statistic of all of a layer's neurons is one row."""

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
    """Some of `schema.COLUMNS` over some layers, ascending, layer after layer; NaN: not known.

    Raises Gone where the run has been deleted meanwhile.
    """
    parts: dict[str, list[Column]] = {name: [] for name in names}
    if not parts:
        return {}
    wanted = {"run_id": run.id, "names": list(parts), "layers": list(layers)}
    for name, packed in connection.execute(_PACKED, wanted):
        parts[name].append(np.frombuffer(packed, "<f8"))
    if any(len(some) < len(layers) for some in parts.values()):
        raise Gone(f"Run {run.id} was deleted while it was being read.")
    return {name: np.concatenate(some) for name, some in parts.items()}


def finite(value: float) -> float | None:
    """A number as JSON knows it; the store's −inf ("never varied", so that it sorts) is None."""
    return value if math.isfinite(value) else None
