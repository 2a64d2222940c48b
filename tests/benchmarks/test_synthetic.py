"""The benchmark's invented database is a store like any other: every page of it can be read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import Engine, func, select

from app.models import queries as model_queries
from app.neurons import queries as neuron_queries
from app.reading.store import Store
from benchmarks.store import invented, synthetic
from indexer.errors import NeurariumError
from indexer.store import schema
from indexer.store.database import open_store
from indexer.store.packing.codec import pack_lists, unpack_arrays, unpack_kinds
from indexer.store.packing.postings import unpack_places

ASKED = 500
SMALL = {"neurons": ASKED, "contexts": 100, "pool": 6, "vocabulary": 2000}


def test_the_models_are_neuroscopes() -> None:
    """25 models with 1.1 million neurons, from one layer of 2,048 to GPT-2 XL's 48 of 6,400."""
    assert len(synthetic.MODELS) == len({name for name, _, _ in synthetic.MODELS}) == 25
    assert synthetic.NEURONS == 1_111_808
    assert ("solu-1l", 1, 2048) in synthetic.MODELS
    assert ("gpt2-xl", 48, 6400) in synthetic.MODELS
    assert synthetic.scaled(synthetic.NEURONS) == [
        (name, (width,) * layers) for name, layers, width in synthetic.MODELS
    ]


@pytest.fixture
def store(any_url: str) -> Iterator[Engine]:
    """A small synthetic database."""
    engine = open_store(any_url, create=True)
    said: list[str] = []
    made = synthetic.make(engine, **SMALL, window=48, say=said.append)
    assert made >= ASKED
    assert len(said) == 25
    yield engine
    engine.dispose()


def test_every_page_can_be_read(store: Engine) -> None:
    """Every model, layer and neuron has its page, with the examples of each kind it should have."""
    reader = Store(store)
    models = model_queries.models(reader, 1000, None).items
    assert [item.model for item in models] == sorted(name for name, _, _ in synthetic.MODELS)
    assert sum(item.n_neurons for item in models) >= ASKED
    rng = np.random.default_rng(0)
    for item in models:
        model = model_queries.model(reader, item.model, None)
        assert len(model.layers) == item.n_layers
        for layer in rng.choice(item.n_layers, min(3, item.n_layers), replace=False).tolist():
            page = neuron_queries.neuron(reader, item.model, layer, 0, None)
            shown = page.examples
            found = {
                "top": shown.top,
                "bottom": shown.bottom,
                "random": shown.random,
                "band": [example for band in shown.bands for example in band.examples],
                "source": [example for source in shown.sources for example in source.examples],
            }
            assert {kind: len(some) for kind, some in found.items()} == invented.EXAMPLES
            assert all(len(example.tokens) == 48 for some in found.values() for example in some)
            peaks = [example.peak for example in shown.top]
            assert peaks == sorted(peaks, reverse=True)
            assert peaks[0] <= page.stats.max <= peaks[0] * 1.001
            assert all(band.low is None or band.examples for band in shown.bands)
            for kind, link in (("upstream", -1), ("downstream", 1)):
                links = getattr(page.weights, kind)
                assert all((neuron.layer - layer) * link > 0 for neuron in links)
            assert all(neuron.layer == layer for neuron in page.together)
    reader.close()


def test_rows_have_the_shape_of_a_real_runs(store: Engine) -> None:
    """One row a neuron, as many contexts a run; all unpack; keys are in order."""
    with store.connect() as connection:
        counts = {
            table.name: connection.scalar(select(func.count()).select_from(table))
            for table in schema.metadata.sorted_tables
        }
        runs = connection.execute(select(schema.runs).order_by(schema.runs.c.id)).all()
        neurons = connection.execute(select(schema.neurons).order_by(schema.neurons.c.id)).all()
        arrays = connection.execute(select(schema.neuron_arrays)).all()
        examples = connection.execute(select(schema.examples).limit(50)).all()
        contexts = connection.execute(select(schema.contexts).limit(50)).all()
    total = sum(sum(run.widths) for run in runs)
    assert all(run.ready for run in runs)
    assert len({run.content_hash for run in runs}) == 25
    assert counts["neurons"] == counts["neuron_arrays"] == total
    assert counts["examples"] == total
    assert counts["contexts"] == 25 * SMALL["contexts"]
    assert counts["vocabularies"] == 1
    assert counts["vocabulary"] == SMALL["vocabulary"]
    assert counts["layers"] == sum(layers for _, layers, _ in synthetic.MODELS)
    expected = [
        schema.neuron_key(run.id, index) for run in runs for index in range(sum(run.widths))
    ]
    assert [neuron.id for neuron in neurons] == expected
    assert len({neuron.max for neuron in neurons}) == total  # scalars are a neuron's own
    for row in arrays:
        assert len(unpack_arrays(bytes(row.packed))["logit_values"]) == 30
    for row in examples:
        kinds = unpack_kinds([(row.kind, row.packed)])
        found = {schema.KINDS[kind]: len(some) for kind, some in kinds.items()}
        assert found == invented.EXAMPLES
    for row in contexts:
        assert len(bytes(row.token_ids)) == 4 * invented.CTX_LEN
        places = unpack_places(bytes(row.neurons))
        assert (np.diff(places["neuron"]) >= 0).all()
        assert set(places["kind"].tolist()) <= {0, 1}


def test_examples_are_as_large_as_real_ones() -> None:
    """Packed lists are within a quarter of what the bundled model's run has a neuron, measured: by
    themselves, and all in their row, where what several have in common stands once."""
    measured = {"top": 2013, "bottom": 1145, "random": 1557, "band": 1293, "source": 1191}
    rng = np.random.default_rng(0)
    some = invented.contexts(rng, 500, 10_000, 5_000)
    drawn = [invented.lists(rng, some, None) for _ in range(20)]
    sizes = {
        kind: np.mean([len(pack_lists([lists[number]])) for lists in drawn])
        for number, kind in enumerate(schema.KINDS)
    }
    sizes["all"] = np.mean([len(pack_lists(lists)) for lists in drawn])
    for kind, size in (measured | {"all": 5503}).items():
        assert size * 0.75 < sizes[kind] < size * 1.25, kind


def test_the_seed_says_it_all() -> None:
    """The same seed draws the same neurons, another one others."""

    def drawn(seed: int) -> invented.PackedExamples:
        rng = np.random.default_rng(seed)
        return invented.examples(rng, invented.contexts(rng, 100, 1_000, 500), 48)

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_a_disk_that_is_too_small_is_not_filled(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would not fit is refused in one line, before anything is written."""
    engine = open_store(store_url, create=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    with pytest.raises(NeurariumError, match="are free: ask for fewer with --neurons"):
        synthetic.make(engine, **SMALL)
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(schema.runs)) == 0
    engine.dispose()
