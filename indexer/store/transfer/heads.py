"""What is stored of attention heads besides what every unit has: read back, and as JSON."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, select

from indexer.store import schema
from indexer.store.units import HEADS
from indexer.store.writing.records import HeadRecord, HeadRecords

Array = np.ndarray[Any, Any]


def read_heads(connection: Connection, run: Row[Any]) -> HeadRecords | None:
    """The heads of a run, as the writer takes them; None for a run of other units."""
    if run.set_name != HEADS:
        return None
    columns = _columns(connection, run)
    return HeadRecords(list(iter_heads(connection, run)), columns, run.provenance["heads"])


def iter_heads(connection: Connection, run: Row[Any]) -> Iterator[HeadRecord]:
    """The heads of a run in order."""
    heads, patterns = schema.heads, schema.head_patterns
    for index in range(sum(run.widths)):
        key = schema.neuron_key(run.id, index)
        facts = connection.scalars(select(heads.c.facts).where(heads.c.neuron_id == key)).one()
        rows = connection.execute(
            select(patterns.c.context_id, patterns.c.packed).where(patterns.c.neuron_id == key)
        )
        yield HeadRecord(json.loads(facts), {row.context_id: bytes(row.packed) for row in rows})


def head_values(connection: Connection, run: Row[Any]) -> list[dict[str, float | None]]:
    """Each head's scores by name of `schema.HEAD_COLUMNS`; None: unknown."""
    columns = {
        name: np.concatenate(by_layer).tolist()
        for name, by_layer in _columns(connection, run).items()
    }
    return [
        {
            name: None if math.isnan(values[index]) else values[index]
            for name, values in columns.items()
        }
        for index in range(sum(run.widths))
    ]


def head_part(head: HeadRecord, values: Mapping[str, float | None]) -> dict[str, Any]:
    """What the store has of a head, exactly, as JSON."""
    return {
        "facts": head.facts,
        "scores": dict(values),
        "patterns": {
            str(context): base64.b64encode(packed).decode()
            for context, packed in sorted(head.patterns.items())
        },
    }


def head_of(part: Mapping[str, Any]) -> HeadRecord:
    """The inverse of `head_part`, without the scores. Raises KeyError, ValueError."""
    patterns = {int(key): base64.b64decode(packed) for key, packed in part["patterns"].items()}
    return HeadRecord(part["facts"], patterns)


def columns_of(
    scores: Sequence[Mapping[str, float | None]], widths: Sequence[int]
) -> dict[str, list[Array]]:
    """The columns of the heads of all layers, from `head_part`'s scores in order."""
    names = scores[0] if scores else ()
    ends = np.cumsum(widths)[:-1]
    return {
        name: np.split(np.array([of[name] for of in scores], np.float64), ends) for name in names
    }


def _columns(connection: Connection, run: Row[Any]) -> dict[str, list[Array]]:
    table = schema.neuron_columns
    columns: dict[str, list[Array]] = {}
    for row in connection.execute(
        select(table.c.name, table.c.packed)
        .where(table.c.run_id == run.id, table.c.name.in_(schema.HEAD_COLUMNS))
        .order_by(table.c.layer)
    ):
        columns.setdefault(row.name, []).append(np.frombuffer(row.packed, "<f8"))
    return columns
