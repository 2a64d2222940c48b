"""Writes what is stored of attention heads besides what every unit has."""

from __future__ import annotations

import json
from collections.abc import Iterator

from sqlalchemy import Connection

from indexer.store import schema
from indexer.store.writing.bulk import insert_rows
from indexer.store.writing.records import HeadRecords


def write_heads(connection: Connection, run_id: int, records: HeadRecords) -> Iterator[bytes]:
    """Write the heads of a run, and yield the canonical bytes of each for the content hash."""
    for index, head in enumerate(records.heads):
        key = schema.neuron_key(run_id, index)
        facts = json.dumps(head.facts, sort_keys=True, separators=(",", ":"))
        patterns = sorted(head.patterns.items())
        insert_rows(connection, schema.heads, [(key, facts)])
        rows = [(key, context_id, packed) for context_id, packed in patterns]
        insert_rows(connection, schema.head_patterns, rows)
        yield facts.encode() + b"".join(packed for _, packed in patterns)
    for name, by_layer in records.columns.items():
        columns = [
            (run_id, name, layer, (values.astype("<f8") + 0.0).tobytes())
            for layer, values in enumerate(by_layer)
        ]
        insert_rows(connection, schema.neuron_columns, columns)
