"""Invented runs are as large as real ones, can be read like them, and are written and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.store import exporting, invented, writing
from indexer.scan.state import Scan
from tests.conftest import serving

EXAMPLES = {"top": 20, "bottom": 10, "random": 15, "band": 12, "source": 12}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer contexts, tokens and windows than the benchmarks have."""
    monkeypatch.setattr(writing, "CONTEXTS", 1200)
    monkeypatch.setattr(writing, "VOCABULARY", 500)
    monkeypatch.setattr(exporting, "VOCABULARY", 2000)
    monkeypatch.setattr(invented, "POOL", 300)


def test_every_page_of_an_invented_run_can_be_read(store_url: str) -> None:
    """Each neuron has the examples it should have, and links to neurons that exist."""
    exporting.make(store_url, (8, 8, 8), contexts=100)
    with serving(store_url) as client:
        for layer in range(3):
            assert client.get(f"/smollm2/{layer}/0").status_code == 200
            page = client.get(f"/api/v1/models/smollm2/layers/{layer}/neurons/0").json()
            groups = page["examples"]
            groups["band"] = [one for band in groups["bands"] for one in band["examples"]]
            groups["source"] = [one for source in groups["sources"] for one in source["examples"]]
            assert {kind: len(groups[kind]) for kind in EXAMPLES} == EXAMPLES
            assert page["stats"]["max"] == groups["top"][0]["peak"]
            for link, sign in (("upstream", -1), ("downstream", 1)):
                assert all((one["layer"] - layer) * sign > 0 for one in page["weights"][link])


def test_an_invented_scan_is_as_large_as_a_real_one() -> None:
    """Its arrays are those of a scan of that shape, and as many examples are shared as measured in
    real runs."""
    rng = np.random.default_rng(0)
    corpus = invented.corpus(rng, 1200, 500)
    shape = invented.shape((20, 20), 1200)
    made = invented.scan(rng, shape, corpus, invented.pool(rng))
    new = Scan(shape, corpus.source_index)
    assert new.sample is not None
    new.sample.count_signs()
    size = sum(array.nbytes for array in made.arrays().values())
    assert size == sum(array.nbytes for array in new.arrays().values())
    assert size == pytest.approx(shape.bytes_held(), rel=0.1)
    assert made.sample is not None
    top, sources = made.top.ids, made.by_source.ids.reshape(40, -1)
    bands = made.sample.bands.ids.reshape(40, -1)
    for neuron in range(40):
        assert len(set(top[neuron].tolist())) == 20
        assert len(set(top[neuron]) & set(sources[neuron])) >= 8
        assert len(set(shape.random_contexts) & set(bands[neuron])) >= invented.SHARED_BANDS


def test_runs_are_written_and_their_bytes_counted(tmp_path: Path) -> None:
    """Each round has a new store; the bytes by purpose are all bytes of the file."""
    files: Counter[int] = Counter()

    def stores() -> Iterator[writing.Stores]:
        for _ in range(2):
            with writing.new_sqlite(tmp_path) as engine:
                yield {"SQLite": engine}
                with engine.connect() as connection:
                    connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
                files[Path(engine.url.database or "").stat().st_size] += 1

    figures = {one.row: one for one in writing.measure(["SQLite"], stores(), 2, 20)}
    assert {one.column for one in figures.values()} == {"SQLite, 40 neurons"}
    assert figures["writing"].value > 0
    assert figures["the scan's state"].value > 0
    ((size, times),) = files.items()
    assert times == 2
    assert figures["all"].value * 40 == pytest.approx(size)
    purposes = list(figures)[4:-1]
    assert figures["all"].value == pytest.approx(sum(figures[name].value for name in purposes))
    assert figures["search"].value > 0
