"""Rows of neurons by index, as lists and searches show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, bindparam, select

from app.errors import Gone
from app.reading.columns import finite
from app.reading.statistics import STATISTICS
from app.reading.store import Reading
from app.schemas import NeuronRow
from indexer.store import schema

_LISTED = [name for name, statistic in STATISTICS.items() if statistic.in_lists]
ROW_COLUMNS = [
    schema.neurons.c[name]
    for name in ("layer", "neuron", *_LISTED, "dead", "peak_token_id", "promoted_token_id")
]
"""What `neuron_row` reads."""
_AT_ONCE = 5_000
"""Neurons asked for in one SELECT: databases bound how many values one may name."""

# Built once: SQLAlchemy takes longer to put a statement together than SQLite to answer it.
_ROWS = select(schema.neurons.c.id, *ROW_COLUMNS).where(
    schema.neurons.c.id.in_(bindparam("keys", expanding=True))
)
_PEAK_TOKENS = select(schema.neurons.c.id, schema.neurons.c.peak_token_id).where(
    schema.neurons.c.id.in_(bindparam("keys", expanding=True))
)


def rows_of(reading: Reading, indices: list[int]) -> dict[int, Any]:
    """Rows of `neurons` (`ROW_COLUMNS`) by index over all layers."""
    first = schema.neuron_key(reading.run.id, 0)
    keys = [first + index for index in indices]
    rows = reading.connection.execute(_ROWS, {"keys": keys}).all()
    return {row.id - first: row for row in rows}


def peak_tokens(reading: Reading, indices: Iterable[int]) -> dict[int, str]:
    """The token at the highest peak of each neuron, by index over all layers.

    Raises Gone if the run was deleted meanwhile.
    """
    first = schema.neuron_key(reading.run.id, 0)
    keys = [first + index for index in sorted(set(indices))]
    texts: dict[int, str] = {}
    for batch in (keys[at : at + _AT_ONCE] for at in range(0, len(keys), _AT_ONCE)):
        for key, token_id in reading.connection.execute(_PEAK_TOKENS, {"keys": batch}):
            texts[key - first] = reading.vocabulary[token_id]
    if len(texts) < len(keys):
        raise deleted(reading.run)
    return texts


def deleted(run: Row[Any]) -> Gone:
    """The error for a run that disappeared while it was read."""
    return Gone(f"Run {run.id} was deleted while it was being read.")


def neuron_row(row: Row[Any], vocabulary: list[str]) -> NeuronRow:
    """A row of `ROW_COLUMNS` as lists show it."""
    return NeuronRow(
        layer=row.layer,
        neuron=row.neuron,
        max=row.max,
        min=row.min,
        mean=row.mean,
        std=row.std,
        skewness=row.skewness,
        kurtosis=finite(row.kurtosis),
        density=row.density,
        effect_kurtosis=finite(row.effect_kurtosis),
        dead=row.dead,
        peak_token=vocabulary[row.peak_token_id],
        promoted_token=vocabulary[row.promoted_token_id],
    )
