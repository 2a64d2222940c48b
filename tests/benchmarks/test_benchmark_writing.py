"""The benchmarks of writing: what is invented is as large as what is real, and counted rightly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, select

from benchmarks.store import invented, invented_scan, sizes, writing
from benchmarks.store.table_bytes import bytes_by_table
from indexer.run.results import Results
from indexer.scan.state import Scan
from indexer.store import schema
from indexer.store.database import open_store
from indexer.store.packing.codec import activations_of, unpack_kinds
from indexer.store.writing.run import write_run

LAYERS, WIDTH = 2, 20


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less to read and fewer windows than the benchmark has."""
    monkeypatch.setattr(writing, "CONTEXTS", 1200)
    monkeypatch.setattr(writing, "VOCABULARY", 500)
    monkeypatch.setattr(invented_scan, "POOL", 300)


@pytest.fixture
def written(small: None, store_url: str) -> Engine:
    """An invented scan in a store."""
    rng = np.random.default_rng(0)
    corpus = invented_scan.corpus(rng, writing.CONTEXTS, writing.VOCABULARY)
    shape = invented_scan.shape(LAYERS, WIDTH, writing.CONTEXTS)
    facts = invented_scan.facts(rng, shape.widths, writing.VOCABULARY)
    results = Results(corpus, True, lambda _: facts)
    engine = open_store(store_url, create=True)
    scan = invented_scan.scan(rng, shape, corpus)
    record = writing.run_record(shape.widths)
    write_run(engine, record, results.neurons(scan), results.contexts())
    return engine


def test_the_invented_state_is_as_large_as_a_real_one(small: None) -> None:
    """Bytes counted are those of a scan of that shape; the run's own estimate is near."""
    rng = np.random.default_rng(0)
    corpus = invented_scan.corpus(rng, writing.CONTEXTS, writing.VOCABULARY)
    shape = invented_scan.shape(LAYERS, WIDTH, writing.CONTEXTS)
    made, new = invented_scan.scan(rng, shape, corpus), Scan(shape, corpus.source_index)
    assert new.sample is not None
    new.sample.count_signs()
    size = invented_scan.state_bytes(new)
    assert invented_scan.state_bytes(made) == size == pytest.approx(shape.bytes_held(), rel=0.1)


def test_invented_neurons_have_what_real_ones_have(written: Engine) -> None:
    """As many examples of each kind, none of one context twice, as many of them shared."""
    table = schema.examples
    with written.connect() as connection:
        rows = connection.execute(select(table)).all()
        keys = [row.neuron_id for row in rows[:5]]
        found = sizes.measure(connection, keys)
    written.dispose()
    assert len(rows) == LAYERS * WIDTH
    values = []
    for row in rows:
        kinds = unpack_kinds([(row.kind, row.packed)])
        for kind, some in kinds.items():
            assert len(some) == invented.EXAMPLES[schema.KINDS[kind]]
            assert len(set(some.context_ids.tolist())) == len(some) or kind > 2
        assert kinds[0].peaks.tolist() == sorted(kinds[0].peaks.tolist(), reverse=True)
        if row.neuron_id in keys:
            values += [examples.quantized for examples in kinds.values()]
            assert all(np.isfinite(activations_of(some)[0]).all() for some in kinds.values())
    shared = invented_scan.SHARED_BANDS + 4 * invented_scan.SHARED_SOURCES
    distinct = sum(invented.EXAMPLES.values()) - shared
    assert found.counts["distinct"] == pytest.approx(distinct, rel=0.02)
    mean = np.mean([len(row.packed) for row in rows[:5]])
    assert found.stored["examples"] == pytest.approx(mean)
    assert found.alone["field peaks"] > 3 * found.counts["distinct"]
    assert found.alone["field lengths"] < found.counts["distinct"]
    total = sum(len(some) for some in values) / len(keys)
    assert 0.3 * total < found.entropy < 0.9 * total
    assert 0.3 * total < found.alone["activations"] < 0.9 * total


def test_entropy_is_that_of_the_values() -> None:
    """Two values equally often take a bit each; one value alone takes nothing."""
    assert sizes.entropy(np.array([3, -3] * 8, np.int8)) == pytest.approx(2.0)
    assert sizes.entropy(np.full(8, 5, np.int8)) == 0.0


def test_rows_are_written_and_written_again(small: None, tmp_path: Path) -> None:
    """Every part has its turn each round, the second store has the first one's rows, and the bytes
    by table are those of the file."""
    made: list[Engine] = []

    def new() -> Engine:
        made.append(open_store(f"sqlite:///{tmp_path / f'{len(made)}.db'}", create=True))
        return made[-1]

    found = writing.measure({"SQLite": new}, LAYERS, WIDTH, rounds=2)
    assert found.neurons == LAYERS * WIDTH
    names = [one.what for one in found.taken]
    assert names.count("SQLite: writing") == names.count("SQLite: its rows alone") == 2
    assert all(one.wall > 0 for one in found.taken)
    whole = [one.processor for one in found.taken if one.what == "SQLite: writing"]
    assert 0 < found.searches["SQLite"] < max(whole)
    for engine, again in zip(made[::2], made[1::2], strict=True):
        for table in writing.TABLES:
            columns = [column for column in table.c if column.name != "run_id"]
            with engine.connect() as one, again.connect() as other:
                rows = one.execute(select(*columns)).all()
                assert rows == other.execute(select(*columns)).all()
                assert len(rows) == LAYERS * WIDTH
        with engine.connect() as connection:
            connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = Path(engine.url.database or "").stat().st_size
        by_table = bytes_by_table(engine, found.neurons)
        assert by_table["all"] * found.neurons == pytest.approx(size)
        inside = found.inside["SQLite"]
        assert 0 < inside["contexts.neurons"] < by_table["contexts"]
        assert 0 < inside["neurons, indexes"] < by_table["neurons"]
        engine.dispose()
        again.dispose()
