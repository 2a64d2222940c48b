"""Rows of neurons by index, as lists and searches show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from app.errors import Gone
from app.reading.columns import finite
from app.reading.store import Reading
from app.schemas import NeuronRow
from indexer.store import schema

_FACTS = ("id", "max", "min", "density", "dead", "peak_token_id", "promoted_token_id")
_NEURONS = select(*(schema.neurons.c[name] for name in _FACTS)).where(
    schema.neurons.c.id.in_(bindparam("keys", expanding=True))
)
_AT_ONCE = 5_000
"""Neurons asked for in one SELECT: databases bound how many values one may name."""
_PEAK_TOKENS = select(schema.neurons.c.id, schema.neurons.c.peak_token_id).where(
    schema.neurons.c.id.in_(bindparam("keys", expanding=True))
)
ROW_COLUMNS = [
    schema.neurons.c[name]
    for name in (
        *("layer", "neuron", "max", "min", "mean", "std", "skewness", "kurtosis", "density"),
        *("effect_kurtosis", "dead", "peak_token_id", "promoted_token_id"),
    )
]
"""What `neuron_row` reads."""


def neurons_of(reading: Reading, flats: list[int]) -> dict[int, Any]:
    """Rows of `neurons` by flat index."""
    keys = [schema.neuron_key(reading.run.id, flat) for flat in flats]
    first = schema.neuron_key(reading.run.id, 0)
    rows = reading.connection.execute(_NEURONS, {"keys": keys}).all()
    return {row.id - first: row for row in rows}


def peak_tokens(
    connection: Connection, run: Row[Any], vocabulary: list[str], flats: Iterable[int]
) -> dict[int, str]:
    """The token at the highest peak of each of many neurons, by their index in the run."""
    keys = [schema.neuron_key(run.id, flat) for flat in sorted(set(flats))]
    found: dict[int, str] = {}
    for some in (keys[at : at + _AT_ONCE] for at in range(0, len(keys), _AT_ONCE)):
        for key, token_id in connection.execute(_PEAK_TOKENS, {"keys": some}):
            found[key - schema.neuron_key(run.id, 0)] = vocabulary[token_id]
    if len(found) < len(keys):
        raise deleted(run)
    return found


def deleted(run: Row[Any]) -> Gone:
    return Gone(f"Run {run.id} was deleted while the text was being read.")


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
