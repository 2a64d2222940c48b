"""The neurons of contexts and tokens equal those computed from the neurons' own rows."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from indexer.store import schema
from indexer.store.packing.codec import unpack_arrays, unpack_kinds, unpack_token_ids
from indexer.store.packing.postings import unpack_places, unpack_token
from indexer.store.writing.spool import Spool

TOP, BOTTOM, RANDOM, BAND, SOURCE = range(5)


def stored_examples(engine: Engine, run_id: int) -> list[tuple[int, int, int, int, float]]:
    """(context, flat neuron, kind, position, value) of every example except random ones; a peak in
    several kinds counts once, under the first kind."""
    first, last = schema.key_range(run_id)
    table = schema.examples
    result = []
    with engine.connect() as connection:
        rows = connection.execute(select(table).where(table.c.neuron_id.between(first, last)))
        by_neuron: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
        for row in rows:
            by_neuron[row.neuron_id - first].append((row.kind, bytes(row.packed)))
    for flat, packed in by_neuron.items():
        kinds = unpack_kinds(packed)
        peaks: set[int] = set()
        for kind in (TOP, SOURCE, BAND, BOTTOM):
            if kind not in kinds:
                continue
            stored = kinds[kind]
            at = stored.trough_positions if kind == BOTTOM else stored.peak_positions
            values = stored.troughs if kind == BOTTOM else stored.peaks
            for entry in zip(stored.context_ids.tolist(), at, values, strict=True):
                if kind == BOTTOM or entry[0] not in peaks:
                    result.append((entry[0], flat, kind, int(entry[1]), float(entry[2])))
                if kind != BOTTOM:
                    peaks.add(entry[0])
    return result


def run_ids(engine: Engine) -> list[int]:
    """All runs of the store."""
    with engine.connect() as connection:
        return list(connection.scalars(select(schema.runs.c.id).order_by(schema.runs.c.id)))


def test_a_context_names_the_neurons_whose_example_it_is(any_filled: Engine) -> None:
    """Each neuron once for the peak and once for the trough, with position and value."""
    for run_id in run_ids(any_filled):
        expected: dict[int, list[tuple[int, int, int, float]]] = defaultdict(list)
        named = stored_examples(any_filled, run_id)
        for context_id, *rest in sorted(named, key=lambda row: (row[:2], row[2] == BOTTOM)):
            expected[context_id].append(tuple(rest))  # type: ignore[arg-type]
        table = schema.contexts
        with any_filled.connect() as connection:
            rows = connection.execute(select(table).where(table.c.run_id == run_id)).all()
        assert rows
        for row in rows:
            result = unpack_places(bytes(row.neurons)).tolist()
            assert result == expected.get(row.context_id, [])


def test_a_token_names_the_neurons_that_have_to_do_with_it(any_filled: Engine) -> None:
    """Peaks are ordered by count and mean over top examples, other roles by magnitude."""
    for run_id in run_ids(any_filled):
        expected = by_hand(any_filled, run_id)
        table = schema.token_neurons
        with any_filled.connect() as connection:
            rows = connection.execute(select(table).where(table.c.run_id == run_id)).all()
        result: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
        for row in rows:
            neurons, values, counts = unpack_token(bytes(row.packed), row.neurons)
            assert row.neurons == len(neurons)
            role = schema.ROLES[row.role]
            columns = [neurons.tolist(), values.tolist()]
            if role == "peak":
                assert counts is not None
                columns.append(counts.tolist())
            result[role, row.token_id] = list(zip(*columns, strict=True))
        assert result == expected


def by_hand(engine: Engine, run_id: int) -> dict[tuple[str, int], list[tuple[Any, ...]]]:
    """The expected `token_neurons`, computed from the neurons' rows."""
    contexts, arrays = schema.contexts, schema.neuron_arrays
    first, last = schema.key_range(run_id)
    with engine.connect() as connection:
        tokens = {
            row.context_id: unpack_token_ids(bytes(row.token_ids)).tolist()
            for row in connection.execute(select(contexts).where(contexts.c.run_id == run_id))
        }
        facts = {
            row.neuron_id - first: unpack_arrays(bytes(row.packed))
            for row in connection.execute(
                select(arrays).where(arrays.c.neuron_id.between(first, last))
            )
        }
    peaks: dict[tuple[int, int], list[float]] = defaultdict(list)
    for context_id, flat, kind, position, value in stored_examples(engine, run_id):
        if kind == TOP:
            peaks[tokens[context_id][position], flat].append(value)
    expected: dict[tuple[str, int], list[tuple[Any, ...]]] = defaultdict(list)
    for (token_id, flat), values in peaks.items():
        mean = float(np.float32(np.sort(values)[::-1].mean()))
        expected["peak", token_id].append((flat, mean, len(values)))
    halves = (("promoted", "logit", 0), ("suppressed", "logit", 1), ("in", "in", 0))
    for flat, stored in facts.items():
        for role, name, half in (*halves, ("gate", "gate", 0)):
            ids, values = stored[f"{name}_token_ids"], stored[f"{name}_values"]
            middle = len(ids) // 2
            mine = slice(middle, None) if half else slice(0, middle)
            for token_id, value in zip(ids[mine].tolist(), values[mine].tolist(), strict=True):
                expected[role, token_id].append((flat, value))
    for (role, _), rows in expected.items():
        rows.sort(
            key=lambda row: (-row[2], -row[1], row[0]) if len(row) == 3 else (-abs(row[1]), row[0])
        )
        assert role in schema.ROLES
    return dict(expected)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 99), max_size=60), st.integers(1, 7), st.integers(1, 5))
def test_a_spool_gives_back_what_it_took(keys: list[int], ranges: int, parts: int) -> None:
    """Ranges return their rows once, in the order added."""
    spool = Spool(np.dtype("<i8"), 100, ranges)
    rows = np.arange(len(keys), dtype="<i8")
    for part in np.array_split(np.arange(len(keys)), parts):
        spool.put(np.array(keys, np.int64)[part], rows[part])
    taken = [spool.take(index).tolist() for index in range(len(spool))]
    for index, stored in enumerate(taken):
        assert stored == [row for row, key in enumerate(keys) if spool.range_of(key) == index]
    assert all(len(spool.take(index)) == 0 for index in range(len(spool)))
    spool.close()


@pytest.mark.parametrize("keys", [0, 1])
def test_a_spool_of_next_to_nothing(keys: int) -> None:
    """A spool with one key has one range."""
    spool = Spool(np.dtype("<i8"), keys)
    assert len(spool.take(0)) == 0
    spool.close()
