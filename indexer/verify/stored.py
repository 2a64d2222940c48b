"""Reads the stored run to verify, and its neurons' packed lists."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from sqlalchemy import Connection, Engine, select

from indexer.errors import NeurariumError
from indexer.store import schema
from indexer.store.packing.codec import ExampleArrays, unpack_kinds
from indexer.store.units import Units
from indexer.verify.report import Finding


@dataclass(frozen=True)
class StoredRun:
    """A stored run, without its neurons."""

    id: int
    model: str
    set_name: str
    noun: str
    sparse: bool
    """Whether only values above 0 are chosen from."""
    hook_point: str
    dtype: str
    widths: tuple[int, ...]
    provenance: dict[str, Any]
    content_hash: str

    @property
    def neurons(self) -> int:
        """The number of neurons in all layers."""
        return sum(self.widths)

    # Not `store.places`, so that the check does not rely on what wrote the run.
    @property
    def offsets(self) -> Int64[np.ndarray, " layers+1"]:
        """The flat index of each layer's first neuron."""
        return np.concatenate([[0], np.cumsum(self.widths)])

    def place(self, flat: int) -> tuple[int, int]:
        """The layer and neuron of a flat index."""
        layer = int(np.searchsorted(self.offsets, flat, side="right")) - 1
        return layer, flat - int(self.offsets[layer])

    def finding(self, flat: int, what: str, kind: str | None = None, **more: Any) -> Finding:
        """A finding about one neuron."""
        layer, neuron = self.place(flat)
        return Finding(what, layer, neuron, kind, **more)


def read_run(engine: Engine, run_id: int) -> StoredRun:
    """The run. Raises NeurariumError if there is no such run."""
    table = schema.runs
    with engine.connect() as connection:
        row = connection.execute(select(table).where(table.c.id == run_id, table.c.ready)).first()
    if row is None:
        raise NeurariumError(f"There is no run {run_id}: `neurarium runs` lists all runs.")
    units = Units.of(row.units)
    return StoredRun(
        id=row.id,
        model=row.model,
        set_name=row.set_name,
        noun=units.noun,
        sparse=units.sparse,
        hook_point=row.hook_point,
        dtype=row.dtype,
        widths=tuple(row.widths),
        provenance=row.provenance,
        content_hash=row.content_hash,
    )


def read_rows(
    connection: Connection, run: StoredRun, flats: list[int]
) -> dict[int, list[tuple[int, bytes]]]:
    """The packed lists of neurons, as (kind, bytes) by flat index."""
    table, zero = schema.examples, schema.neuron_key(run.id, 0)
    query = select(table).where(table.c.neuron_id.in_([zero + flat for flat in flats]))
    lists: dict[int, list[tuple[int, bytes]]] = {flat: [] for flat in flats}
    for row in connection.execute(query.order_by(table.c.neuron_id, table.c.kind)):
        lists[row.neuron_id - zero].append((row.kind, row.packed))
    return lists


def unpack(rows: list[tuple[int, bytes]]) -> dict[int, ExampleArrays] | str:
    """A neuron's lists by kind, or the problem with their bytes."""
    try:
        return unpack_kinds(rows)
    except (ValueError, struct.error) as error:
        return f"its lists of examples cannot be read: {error}"
