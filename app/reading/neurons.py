"""Reads rows of neurons by index, for lists and searches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, bindparam, select

from app.reading.columns import deleted, finite
from app.reading.statistics import STATISTICS
from app.reading.store import Reading
from app.reading.vocabulary import text_of
from app.schemas import NeuronRow
from indexer.store import schema

_LISTED = [name for name, statistic in STATISTICS.items() if statistic.in_lists]
ROW_COLUMNS = [
    schema.neurons.c[name]
    for name in ("layer", "neuron", *_LISTED, "dead", "peak_token_id", "promoted_token_id")
]
"""The columns that `neuron_row` needs."""
_BATCH = 5_000
"""Neurons a SELECT: databases limit the number of bound values."""

# Built once: SQLAlchemy takes longer to put a statement together than SQLite to answer it.
ROWS = select(schema.neurons).where(schema.neurons.c.id.in_(bindparam("keys", expanding=True)))
_PEAK_TOKENS = select(schema.neurons.c.id, schema.neurons.c.peak_token_id).where(
    schema.neurons.c.id.in_(bindparam("keys", expanding=True))
)


def rows_of(reading: Reading, indices: list[int]) -> dict[int, Any]:
    """Rows of the neurons at `indices` (over all layers), by index."""
    first = schema.neuron_key(reading.run.id, 0)
    keys = [first + index for index in indices]
    rows = reading.connection.execute(ROWS, {"keys": keys}).all()
    return {row.id - first: row for row in rows}


def peak_tokens(reading: Reading, indices: Iterable[int]) -> dict[int, str]:
    """The text of the token each neuron peaks on, by index over all layers.

    Raises Gone if the run was deleted meanwhile.
    """
    first = schema.neuron_key(reading.run.id, 0)
    keys = [first + index for index in sorted(set(indices))]
    texts: dict[int, str] = {}
    for batch in (keys[at : at + _BATCH] for at in range(0, len(keys), _BATCH)):
        for key, token_id in reading.connection.execute(_PEAK_TOKENS, {"keys": batch}):
            texts[key - first] = text_of(reading.vocabulary, token_id)
    if len(texts) < len(keys):
        raise deleted(reading.run)
    return texts


def promoted_token(row: Row[Any], vocabulary: list[str]) -> str | None:
    """The token a unit promotes most; None if it is not known what the unit writes."""
    token_id: int | None = row.promoted_token_id
    return None if token_id is None else vocabulary[token_id]


def neuron_row(row: Row[Any], vocabulary: list[str]) -> NeuronRow:
    """A row with `ROW_COLUMNS` as JSON; `vocabulary` has the text of each token id."""
    return NeuronRow(
        layer=row.layer,
        neuron=row.neuron,
        dead=row.dead,
        peak_token=text_of(vocabulary, row.peak_token_id),
        promoted_token=promoted_token(row, vocabulary),
        **{name: finite(getattr(row, name)) for name in _LISTED},
    )
