"""Reads rows of neurons by index, for lists and searches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from app.reading.columns import finite
from app.reading.schemas import NeuronRow
from app.reading.statistics import STATISTICS
from app.reading.store import Reading
from app.reading.unit_names import name_at
from app.reading.vocabulary import text_of
from indexer.store import schema
from indexer.store.checksums import cover, missing

_LISTED = [name for name, statistic in STATISTICS.items() if statistic.in_lists]
NEURONS = cover(schema.neurons)
_BATCH = 5_000
"""Neurons a SELECT: databases limit the number of bound values."""

# Built once: SQLAlchemy takes longer to put a statement together than SQLite to answer it.
_ROWS = select(*NEURONS.selected).where(schema.neurons.c.id.in_(bindparam("keys", expanding=True)))


def rows_of(reading: Reading, indices: Iterable[int]) -> dict[int, Row[Any]]:
    """Rows of the neurons at `indices` (over all layers), by index. Raises Damaged."""
    first = schema.neuron_key(reading.run.id, 0)
    rows = rows_at(reading.connection, [first + index for index in sorted(set(indices))])
    return {key - first: row for key, row in rows.items()}


def rows_at(connection: Connection, keys: Sequence[int]) -> dict[int, Row[Any]]:
    """Rows of neurons by key. Raises Damaged."""
    rows: dict[int, Row[Any]] = {}
    for batch in (keys[at : at + _BATCH] for at in range(0, len(keys), _BATCH)):
        found = NEURONS.check(connection.execute(_ROWS, {"keys": batch}).all())
        rows |= {row.id: row for row in found}
    for key in keys:
        if key not in rows:
            raise missing(schema.neurons, id=key)
    return rows


def peak_tokens(reading: Reading, indices: Iterable[int]) -> dict[int, str]:
    """The text of the token each neuron peaks on, by index over all layers. Raises Damaged."""
    rows = rows_of(reading, indices)
    return {index: text_of(reading.vocabulary, row.peak_token_id) for index, row in rows.items()}


def promoted_token(row: Row[Any], vocabulary: list[str]) -> str | None:
    """The token a unit promotes most; None if it is not known what the unit writes."""
    token_id: int | None = row.promoted_token_id
    return None if token_id is None else vocabulary[token_id]


def neuron_row(row: Row[Any], reading: Reading) -> NeuronRow:
    """A row of `rows_of` as JSON; `reading` is of its run. Raises Damaged."""
    return NeuronRow(
        layer=row.layer,
        neuron=row.neuron,
        name=name_at(reading, row.layer, row.neuron),
        dead=row.dead,
        peak_token=text_of(reading.vocabulary, row.peak_token_id),
        promoted_token=promoted_token(row, reading.vocabulary),
        **{name: finite(getattr(row, name)) for name in _LISTED},
    )
