"""Attention heads as Arrow tables: their scores, and the pairs of their examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from app.export.scores import scores_of
from app.reading.store import Reading
from indexer.store.transfer.heads import iter_heads
from indexer.store.transfer.records import run_row
from indexer.store.units import HEADS

_PAIR = {
    "context_id": pa.int64(),
    "query": pa.int32(),
    "key": pa.int32(),
    "value": pa.float64(),
    "attention": pa.float64(),
    "moved": pa.float64(),
    "effect": pa.float64(),
}


def head_tables(reading: Reading, indices: Sequence[int]) -> Iterator[tuple[str, pa.Table]]:
    """Of a run of attention heads the tables `heads` (scores) and `pairs` (examples)."""
    if reading.run.set_name != HEADS:
        return
    places = [reading.places.of(index) for index in indices]
    scores = {
        name: pa.array([values[index] for index in indices], pa.float64())
        for name, values in scores_of(reading).items()
    }
    place = {
        "layer": pa.array([layer for layer, _ in places], pa.int32()),
        "head": pa.array([head for _, head in places], pa.int32()),
    }
    yield "heads", pa.table({**place, **scores})
    yield "pairs", pa.table(_pairs(reading, set(indices)))


def _pairs(reading: Reading, chosen: set[int]) -> dict[str, Any]:
    rows: dict[str, list[Any]] = {name: [] for name in ("layer", "head", "ranking", "rank", *_PAIR)}
    run = run_row(reading.connection, reading.run.id)
    for index, record in enumerate(iter_heads(reading.connection, run)):
        if index not in chosen:
            continue
        layer, head = reading.places.of(index)
        for ranking, examples in record.facts["examples"].items():
            for rank, example in enumerate(examples):
                given = {"layer": layer, "head": head, "ranking": ranking, "rank": rank, **example}
                for name, values in rows.items():
                    values.append(given[name])
    kinds = {"layer": pa.int32(), "head": pa.int32(), "ranking": pa.string(), "rank": pa.int32()}
    return {name: pa.array(rows[name], kind) for name, kind in {**kinds, **_PAIR}.items()}
