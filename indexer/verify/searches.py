"""Compares the tables that searches read with the neurons' own rows: columns searched by number,
and tokens listed for their weights."""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int64
from sqlalchemy import Connection, Engine, select

from indexer.store import schema
from indexer.store.packing.codec import unpack_arrays
from indexer.store.packing.postings import unpack_token
from indexer.store.writing.postings import listed_tokens
from indexer.verify.report import Findings
from indexer.verify.stored import StoredRun

_COLUMNS = "searches: by number"
_TOKENS = "searches: by token"
_CHUNK = 200  # neurons, or tokens, read at once


def check_searches(
    engine: Engine, run: StoredRun, flats: Int64[np.ndarray, " n"], findings: Findings
) -> None:
    """Compare neurons, given by flat index, with the tables for searches."""
    by_layer: dict[int, list[int]] = defaultdict(list)
    for flat in flats.tolist():
        by_layer[run.place(flat)[0]].append(flat)
    with engine.connect() as connection:
        for layer, in_layer in by_layer.items():
            columns = _columns(connection, run, layer)
            for start in range(0, len(in_layer), _CHUNK):
                rows = _rows(connection, run, in_layer[start : start + _CHUNK])
                _compare_columns(run, layer, columns, rows, findings)
                _compare_tokens(connection, run, rows, findings)


def _rows(connection: Connection, run: StoredRun, flats: list[int]) -> dict[int, Any]:
    table, arrays = schema.neurons, schema.neuron_arrays
    first = schema.neuron_key(run.id, 0)
    query = select(table, arrays.c.packed).join(arrays, arrays.c.neuron_id == table.c.id)
    query = query.where(table.c.id.in_([first + flat for flat in flats])).order_by(table.c.id)
    return {row.id - first: row for row in connection.execute(query)}


def _columns(connection: Connection, run: StoredRun, layer: int) -> dict[str, bytes]:
    table = schema.neuron_columns
    query = select(table.c.name, table.c.packed)
    query = query.where(table.c.run_id == run.id, table.c.name.in_(schema.COLUMNS))
    rows = connection.execute(query.where(table.c.layer == layer))
    return {row.name: bytes(row.packed) for row in rows}


def _compare_columns(
    run: StoredRun,
    layer: int,
    columns: dict[str, bytes],
    rows: dict[int, Any],
    findings: Findings,
) -> None:
    wrong = []
    for flat, row in rows.items():
        at = 8 * (flat - int(run.offsets[layer]))
        for name in schema.COLUMNS:
            own = getattr(row, name)
            own = math.nan if own is None else float(own)
            packed = columns.get(name, b"")[at : at + 8]
            value = struct.unpack("<d", packed)[0] if len(packed) == 8 else None
            if value is None or not (value == own or (math.isnan(value) and math.isnan(own))):
                wrong.append((flat, f"searches have its {name} as {value}, its row as {own}"))
    findings.equal(_COLUMNS, len(rows) * len(schema.COLUMNS), len(wrong))
    for flat, what in wrong:
        findings.add(run.finding(flat, what))


def _compare_tokens(
    connection: Connection, run: StoredRun, rows: dict[int, Any], findings: Findings
) -> None:
    wanted: dict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
    for flat, row in rows.items():
        for role, token_id, value in _listed(row):
            wanted[token_id, role].append((flat, value))
    by_token = _of_tokens(connection, run, sorted({token_id for token_id, _ in wanted}))
    wrong = []
    for (token_id, role), named in wanted.items():
        stored = by_token.get((token_id, role), {})
        for flat, value in named:
            if stored.get(flat) != value:
                what = f"{schema.ROLES[role]} by {stored.get(flat)}, its own list by {value}"
                wrong.append((flat, f"searches have token {token_id} as {what}"))
    findings.equal(_TOKENS, sum(map(len, wanted.values())), len(wrong))
    for flat, what in wrong:
        findings.add(run.finding(flat, what))


def _listed(row: Any) -> Iterator[tuple[int, int, float]]:
    """Role, token and value of each entry in a neuron's lists of tokens."""
    try:
        arrays = unpack_arrays(bytes(row.packed))
    except (ValueError, struct.error, IndexError):
        return  # reported when the neuron's examples are read
    for role, tokens in listed_tokens(arrays).items():
        for token_id, value in zip(*tokens, strict=True):
            yield schema.ROLES.index(role), int(token_id), float(value)


def _of_tokens(
    connection: Connection, run: StoredRun, token_ids: list[int]
) -> dict[tuple[int, int], dict[int, float]]:
    """The stored neurons, by token and role, with their values."""
    table = schema.token_neurons
    by_token: dict[tuple[int, int], dict[int, float]] = {}
    for start in range(0, len(token_ids), _CHUNK):
        batch = token_ids[start : start + _CHUNK]
        query = select(table).where(table.c.run_id == run.id, table.c.token_id.in_(batch))
        for row in connection.execute(query):
            try:
                neurons, values, _ = unpack_token(bytes(row.packed), row.neurons)
            except ValueError:
                continue  # all its neurons will be reported as missing
            by_token[row.token_id, row.role] = dict(
                zip(neurons.tolist(), values.tolist(), strict=True)
            )
    return by_token
