"""The scores of attention heads, which exports of their runs have besides."""

from __future__ import annotations

from app.reading.columns import columns
from app.reading.store import Reading
from indexer.store import schema
from indexer.store.units import HEADS


def score_names(reading: Reading) -> tuple[str, ...]:
    """The columns that runs of attention heads have besides; none in other runs."""
    return schema.HEAD_COLUMNS if reading.run.set_name == HEADS else ()


def scores_of(reading: Reading) -> dict[str, list[float | None]]:
    """The scores of all heads by name, in order; None: unknown."""
    layers = list(range(len(reading.run.widths)))
    known = columns(reading.connection, reading.run, score_names(reading), layers)
    return {
        name: [value if value == value else None for value in column.tolist()]
        for name, column in known.items()
    }
