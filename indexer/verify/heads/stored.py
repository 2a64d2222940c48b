"""Reads what a run stores of its attention heads."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Engine, select

from indexer.store import schema
from indexer.store.packing.pattern import SparsePattern, unpack_pattern
from indexer.verify.report import Findings
from indexer.verify.stored import StoredRun

_FORM = "heads: facts and patterns can be read"
_COLUMNS = "heads: searches by number"
_CHUNK = 200  # heads read at once

Array = np.ndarray[Any, Any]
Facts = dict[str, Any]


@dataclass(frozen=True)
class StoredHeads:
    """What is stored of all heads, by flat index."""

    facts: dict[int, Facts]
    """Without heads whose facts cannot be read."""
    run: Facts
    """What is stored once for all heads."""


def read_heads(engine: Engine, run: StoredRun, findings: Findings) -> StoredHeads:
    """The facts of all heads, compared with the columns that searches read."""
    first, facts = schema.neuron_key(run.id, 0), dict[int, Facts]()
    table = schema.heads
    with engine.connect() as connection:
        for start in range(0, run.neurons, _CHUNK):
            keys = [first + flat for flat in range(start, min(start + _CHUNK, run.neurons))]
            rows = connection.execute(select(table).where(table.c.neuron_id.in_(keys)))
            for row in rows:
                try:
                    facts[row.neuron_id - first] = json.loads(row.facts)
                except ValueError:
                    continue
        columns = _columns(connection, run)
    for flat in range(run.neurons):
        if flat not in facts:
            findings.add(run.finding(flat, "its facts are missing or cannot be read"))
    findings.equal(_FORM, run.neurons, run.neurons - len(facts))
    _compare_columns(run, facts, columns, findings)
    return StoredHeads(facts, run.provenance["heads"])


def read_patterns(
    engine: Engine, run: StoredRun, flat: int, findings: Findings
) -> dict[int, SparsePattern]:
    """The patterns of one head by context id, without those that cannot be read."""
    table, found = schema.head_patterns, dict[int, SparsePattern]()
    key = schema.neuron_key(run.id, flat)
    with engine.connect() as connection:
        for row in connection.execute(select(table).where(table.c.neuron_id == key)):
            try:
                found[row.context_id] = unpack_pattern(bytes(row.packed))
            except (ValueError, struct.error, IndexError, zlib.error) as error:
                findings.equal(_FORM, 1, 1)
                what = f"its pattern cannot be read: {error}"
                findings.add(run.finding(flat, what, context_id=row.context_id))
    return found


def _columns(connection: Any, run: StoredRun) -> dict[str, Array]:
    """Every column of heads by name, over all layers [heads]."""
    table = schema.neuron_columns
    query = select(table).where(table.c.run_id == run.id, table.c.name.in_(schema.HEAD_COLUMNS))
    layers: dict[str, dict[int, bytes]] = {}
    for row in connection.execute(query):
        layers.setdefault(row.name, {})[row.layer] = bytes(row.packed)
    columns = {}
    for name, by_layer in layers.items():
        whole = [
            np.frombuffer(by_layer.get(layer, b"")[: 8 * width].ljust(8 * width, b"\0"), "<f8")
            for layer, width in enumerate(run.widths)
        ]
        columns[name] = np.concatenate(whole)
    return columns


def _compare_columns(
    run: StoredRun, facts: dict[int, Facts], columns: dict[str, Array], findings: Findings
) -> None:
    wrong, compared = [], 0
    for flat, own in facts.items():
        scores, copying = own["scores"], own["circuits"]["copying"]
        named = {**scores["repeated"], "copying": copying}
        named |= {f"{name}_text": value for name, value in scores["text"].items()}
        for name, value in named.items():
            column = columns.get(name)
            compared += 1
            shown = None if column is None or np.isnan(column[flat]) else float(column[flat])
            if column is None or shown != value:
                wrong.append((flat, f"searches have its {name} as {shown}, its page as {value}"))
    findings.equal(_COLUMNS, compared, len(wrong))
    for flat, what in wrong:
        findings.add(run.finding(flat, what))
