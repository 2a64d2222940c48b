"""Invented runs are as large as real ones, can be read like them, and are written and counted."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import func, select

from benchmarks.store import invented, synthetic, writing
from indexer.errors import NeurariumError
from indexer.scan.state import Scan
from indexer.store import schema
from indexer.store.database import open_store
from tests.conftest import serving

NEURONS = 400
EXAMPLES = {"top": 20, "bottom": 10, "random": 15, "band": 12, "source": 12}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer contexts, tokens and windows than the benchmarks have."""
    monkeypatch.setattr(writing, "CONTEXTS", 1200)
    monkeypatch.setattr(writing, "VOCABULARY", 500)
    monkeypatch.setattr(invented, "POOL", 300)


def test_the_models_are_neuroscopes() -> None:
    """25 models with 1.1 million neurons, from one layer of 2,048 to GPT-2 XL's 48 of 6,400."""
    assert len({name for name, _, _ in synthetic.MODELS}) == 25
    assert synthetic.NEURONS == 1_111_808
    assert synthetic.scaled(synthetic.NEURONS) == [
        (name, (width,) * layers) for name, layers, width in synthetic.MODELS
    ]


def test_every_page_of_a_synthetic_store_can_be_read(any_url: str) -> None:
    """Each neuron has the examples it should have, and links to neurons that exist."""
    engine = open_store(any_url, create=True)
    lines: list[str] = []
    made = synthetic.make(engine, neurons=NEURONS, contexts=100, vocabulary=2000, say=lines.append)
    assert made >= NEURONS
    assert len(lines) == 25
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(schema.vocabularies)) == 1
        assert connection.scalar(select(func.count()).select_from(schema.neurons)) == made
    engine.dispose()
    with serving(any_url) as client:
        models = client.get("/api/v1/models?limit=1000").json()["items"]
        assert {item["model"] for item in models} == {name for name, _, _ in synthetic.MODELS}
        for item in models[::4]:
            layer = item["n_layers"] // 2
            assert client.get(f"/{item['model']}/{layer}/0").status_code == 200
            page = client.get(f"/api/v1/models/{item['model']}/layers/{layer}/neurons/0").json()
            groups = page["examples"]
            groups["band"] = [one for band in groups["bands"] for one in band["examples"]]
            groups["source"] = [one for source in groups["sources"] for one in source["examples"]]
            assert {kind: len(groups[kind]) for kind in EXAMPLES} == EXAMPLES
            assert page["stats"]["max"] == groups["top"][0]["peak"]
            for link, sign in (("upstream", -1), ("downstream", 1)):
                assert all((one["layer"] - layer) * sign > 0 for one in page["weights"][link])


def test_a_disk_that_is_too_small_is_not_filled(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused in one line, before anything is written."""
    engine = open_store(store_url, create=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    with pytest.raises(NeurariumError, match="are free: ask for fewer with --neurons"):
        synthetic.make(engine, neurons=NEURONS)
    engine.dispose()


def test_an_invented_scan_is_as_large_as_a_real_one() -> None:
    """Its arrays are those of a scan of that shape, and as many examples are shared as measured in
    real runs."""
    rng = np.random.default_rng(0)
    corpus = invented.corpus(rng, 1200, 500)
    shape = invented.shape((20, 20), 1200)
    made = invented.scan(rng, shape, corpus, invented.pool(rng, gated=True))
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
