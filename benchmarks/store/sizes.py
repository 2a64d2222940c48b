"""Where the bytes of a stored run go: by table, and inside the packed columns by kind and field.

python -m benchmarks.store.sizes --database sqlite:///FILE --model demo
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer
from rich import print as show
from sqlalchemy import Connection, select

from benchmarks.store.table_bytes import bytes_by_table
from indexer.store import schema
from indexer.store.database import open_store
from indexer.store.packing import layout
from indexer.store.packing.codec import (
    ExampleArrays,
    Packer,
    pack_arrays,
    pack_lists,
    unpack_arrays,
    unpack_kinds,
    windows_of,
)

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sizes:
    """Means over some neurons, in bytes a neuron."""

    stored: dict[str, float]
    """The packed columns as they are."""
    alone: dict[str, float]
    """Each field of the distinct examples and each small array, compressed by itself."""
    counts: dict[str, float]
    """Examples a neuron by kind, and how many distinct ones there are."""
    entropy: float
    """What the activations' own frequencies allow at least, neuron by neuron: no code that takes
    every value by itself is shorter."""


def measure(connection: Connection, keys: list[int]) -> Sizes:
    """The sizes of some neurons' rows, packed as this version packs them."""
    stored: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    least = 0.0
    for key in keys:
        lists = _lists(connection, key)
        stored["examples"] += len(pack_lists(lists))
        for kind, some in zip(schema.KINDS, lists, strict=True):
            counts[kind] += len(some)
            alone[f"list {kind}, by itself"] += len(pack_lists([some])) if len(some) else 0
        distinct = distinct_of(lists)
        counts["distinct"] += len(distinct.peaks)
        for name, dtype in layout.FIELDS.items():
            values = getattr(distinct, name).astype(dtype)
            if name == "scales":  # what is stored is how they differ from what is expected
                expected = layout.expected_scales(distinct.peaks, distinct.troughs)
                values = values.view("<u4") ^ expected.view("<u4")
            alone[f"field {name}"] += _compressed(values)
        inside = np.arange(distinct.quantized.shape[1]) < distinct.lengths[:, None]
        values = distinct.quantized[inside]
        alone["activations"] += len(Packer().lists(b"", values.tobytes()))
        least += entropy(values)
        table = schema.neuron_arrays
        packed = connection.scalars(select(table.c.packed).where(table.c.neuron_id == key)).one()
        arrays = unpack_arrays(bytes(packed))
        stored["neuron_arrays"] += len(pack_arrays(arrays))
        for name, array in arrays.items():
            alone[f"array {name}"] += _compressed(array) if len(array) else 0
    each = 1 / len(keys)
    return Sizes(
        {name: size * each for name, size in stored.items()},
        {name: size * each for name, size in alone.items()},
        {name: size * each for name, size in counts.items()},
        least * each,
    )


def distinct_of(lists: list[ExampleArrays]) -> layout.Windows:
    """The examples of a neuron, each once, as they are stored."""
    windows = windows_of(lists)
    owner = np.zeros(len(windows.peaks), np.int64)
    kept = np.unique(layout.first_alike(owner, windows))
    return layout.Windows(**{name: values[kept] for name, values in vars(windows).items()})


def _lists(connection: Connection, key: int) -> list[ExampleArrays]:
    table = schema.examples
    rows = connection.execute(select(table.c.kind, table.c.packed).where(table.c.neuron_id == key))
    kinds = unpack_kinds((row.kind, row.packed) for row in rows)
    none = next(iter(kinds.values()))
    empty = ExampleArrays(**{name: values[:0] for name, values in vars(none).items()})
    return [kinds.get(kind, empty) for kind in range(len(schema.KINDS))]


def _compressed(values: Array) -> int:
    """Bytes of an array as planes, compressed by itself, without what tells its length."""
    planes = np.ascontiguousarray(values.view(np.uint8).reshape(len(values), -1).T)
    packer = Packer()
    return max(0, len(packer.arrays(planes.tobytes())) - len(packer.arrays(b"")))


def entropy(values: Array) -> float:
    """Bytes that the values' own frequencies allow (order 0)."""
    counts = np.bincount(values.astype(np.int64) + 128)
    shares = counts[counts > 0] / len(values)
    return float(-(shares * np.log2(shares)).sum() * len(values) / 8)


def main(
    database: Annotated[str, typer.Option(help="A database with a run of the model.")],
    model: Annotated[str, typer.Option(help="The model's name in URLs.")] = "demo",
    neurons: Annotated[int, typer.Option(min=1, help="Neurons drawn.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the choice of neurons.")] = 0,
) -> None:
    """Print bytes a neuron by table, by kind and by field."""
    engine = open_store(database, create=False)
    runs = schema.runs
    with engine.connect() as connection:
        run = connection.execute(
            select(runs).where(runs.c.model == model, runs.c.ready).order_by(runs.c.id.desc())
        ).first()
        if run is None:
            raise typer.BadParameter(f"There is no run of {model!r} in {database}.")
        total = sum(run.widths)
        stored = sum(sum(widths) for (widths,) in connection.execute(select(runs.c.widths)))
        drawn = np.random.default_rng(seed).choice(total, min(neurons, total), replace=False)
        keys = [schema.neuron_key(run.id, int(flat)) for flat in drawn]
        sizes = measure(connection, keys)
    show(f"{stored:,} neurons in the database, {total:,} of {model}, {len(keys):,} looked at")
    for title, some in (
        ("the database, by table with its indexes", bytes_by_table(engine, stored)),
        ("packed columns", sizes.stored),
        ("examples a neuron", sizes.counts),
        ("by themselves", sizes.alone),
    ):
        show(f"\n{title}")
        for name, size in some.items():
            if size >= 0.1:
                show(f"  {name:32} {size:8,.1f}")
    show(f"\nactivations: entropy of single values, neuron by neuron {sizes.entropy:,.1f}")
    engine.dispose()


if __name__ == "__main__":
    typer.run(main)
