"""What the queries return, against the hand-written store worked out in plain Python."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pytest
from sqlalchemy import create_engine

from app.errors import Invalid, NotFound
from app.models import queries as models
from app.models.schemas import LayerPage, Sort
from app.navigation.queries import random_neuron
from app.neurons.schemas import NeuronPage
from app.reading.statistics import STATISTICS
from app.reading.store import Store
from app.schemas import NeuronRef, Order
from app.sets import ModelSet
from indexer.store import schema
from tests.helpers import fixture_store, readers
from tests.helpers.fixture_store import MODELS, RUNS, TOY_NEURONS, WIDE, Neuron


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """The hand-written store, in each kind of database."""
    name = "sqlite_filled" if request.param == "sqlite" else "postgres_filled"
    engine = create_engine(request.getfixturevalue(name))
    yield Store(engine)
    engine.dispose()


def in_order(neurons: tuple[Neuron, ...], sort: Sort, order: Order) -> list[int]:
    """The neurons' indices as a list in this order must have them."""
    values = {
        "neuron": lambda index: 0,
        "max": lambda index: neurons[index].maximum,
        "mean": lambda index: neurons[index].mean,
        "density": lambda index: neurons[index].density,
        "kurtosis": lambda index: neurons[index].kurtosis,
        "lookup": lambda index: neurons[index].lookup,
        "effect_kurtosis": lambda index: neurons[index].effect_kurtosis,
    }[sort]
    by = [(values(index), index) for index in range(len(neurons))]
    return [index for _, index in sorted(by, reverse=order == "desc")]


def walk(
    store: Store, model: str, layer: int, run: int | None, sort: Sort, order: Order, limit: int
) -> list[list[int]]:
    """The neurons of all pages of a list, page by page."""
    pages: list[list[int]] = []
    cursor = None
    while True:
        page = readers.layer(store, model, layer, run, sort, order, limit, cursor).neurons
        pages.append([row.neuron for row in page.items])
        cursor = page.next
        if cursor is None:
            return pages


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("sort", get_args(Sort))
def test_all_pages_of_a_list_are_the_sorted_list(store: Store, sort: Sort, order: Order) -> None:
    """Following cursors gives every neuron once, in order, ties by neuron, whatever the limit."""
    for model, layers in (("wide", WIDE), ("toy", TOY_NEURONS)):
        for layer, neurons in enumerate(layers):
            expected = in_order(neurons, sort, order)
            for limit in {1, 3, len(neurons) - 1, len(neurons), 1000}:
                pages = walk(store, model, layer, None, sort, order, limit)
                assert [neuron for page in pages for neuron in page] == expected
                assert all(len(page) == limit for page in pages[:-1])
                assert pages[-1], "the last page is not empty"


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
def test_all_pages_of_models_are_the_sorted_models(store: Store, limit: int) -> None:
    """Following cursors gives every model once, by the code points of its name."""
    names: list[str] = []
    cursor = None
    while True:
        page = models.models(store, limit, cursor)
        names += [item.model for item in page.items]
        cursor = page.next
        if cursor is None:
            break
        assert len(page.items) == limit
    assert names == MODELS


def test_a_list_shows_each_neuron_s_own_numbers(store: Store) -> None:
    """A row of a list has the neuron's statistics and its two tokens."""
    for layer, neurons in enumerate(TOY_NEURONS):
        rows = readers.layer(store, "toy", layer, None, "neuron", "asc", 100, None).neurons.items
        for row, neuron in zip(rows, neurons, strict=True):
            best = neuron.top[0]
            peak_token = fixture_store.CONTEXTS[best.context].token_ids[best.peak_position]
            assert row.max == neuron.maximum
            assert row.min == neuron.minimum
            assert row.mean == neuron.mean
            assert row.std == neuron.std
            assert row.skewness == neuron.skewness
            assert row.kurtosis == (neuron.kurtosis if math.isfinite(neuron.kurtosis) else None)
            assert row.density == neuron.density
            assert row.effect_kurtosis == neuron.effect_kurtosis
            assert row.dead == neuron.dead
            assert row.peak_token == fixture_store.TEXTS[peak_token]
            assert row.promoted_token == fixture_store.TEXTS[neuron.promotes[0][0]]


def test_a_layer_is_summed_up(store: Store) -> None:
    """A model's layers count their neurons and the dead, and average what they say they do."""
    layers = readers.model(store, "toy", None).layers
    assert [summary.layer for summary in layers] == [0, 1]
    for summary, neurons in zip(layers, TOY_NEURONS, strict=True):
        assert summary.neurons == 4
        assert summary.dead == sum(neuron.dead for neuron in neurons)
        assert summary.max == max(neuron.maximum for neuron in neurons)
        assert summary.mean_max == sum(neuron.maximum for neuron in neurons) / 4
        assert summary.mean_density == sum(neuron.density for neuron in neurons) / 4
        levels = np.linspace(0, 1, 21)
        maxima = [neuron.maximum for neuron in neurons]
        assert summary.max_quantiles == np.quantile(maxima, levels).tolist()
        densities = [neuron.density for neuron in neurons]
        assert summary.density_quantiles == np.quantile(densities, levels).tolist()


def test_the_run_shown_is_the_latest_at_the_default_hook_point(store: Store) -> None:
    """Not the newest run of all, unless the model has none at its default hook point."""
    page = readers.model(store, "toy", None)
    assert page.run.id == fixture_store.TOY
    assert [run.id for run in page.other_runs] == [fixture_store.TOY_PRE, fixture_store.FIRST_TOY]
    assert readers.model(store, "pre-only", None).run.id == fixture_store.PRE_ONLY
    assert readers.model(store, "pre-only", None).other_runs == []
    shown = {item.model: (item.run.id, item.runs) for item in models.models(store, 10, None).items}
    assert shown["toy"] == (fixture_store.TOY, 3)
    assert shown["pre-only"] == (fixture_store.PRE_ONLY, 1)


@pytest.mark.parametrize("number", range(1, len(RUNS) + 1))
def test_any_run_can_be_named(store: Store, number: int) -> None:
    """`run` picks a run of the model, with its own layers and neurons."""
    run = RUNS[number - 1]
    page = readers.model(store, run.model, number)
    assert page.run.id == number
    assert page.run.hook_point == run.hook_point
    assert [summary.neurons for summary in page.layers] == [len(layer) for layer in run.layers]
    first = readers.neuron(store, run.model, 0, 0, number)
    assert first.hook_point == f"blocks.0.{run.hook_point}"
    assert first.stats.max == run.layers[0][0].maximum


def test_previous_and_next_cross_layers(store: Store) -> None:
    """Neighbours are counted over all layers; the ends have none."""
    places = [(0, 0), (0, 1), (0, 2), (1, 0)]
    pages = [readers.neuron(store, "Zebra_2.0", *place, None) for place in places]
    refs = [NeuronRef(layer=layer, neuron=neuron) for layer, neuron in places]
    assert [page.previous for page in pages] == [None, *refs[:-1]]
    assert [page.next for page in pages] == [*refs[1:], None]


def test_only_runs_that_have_the_neuron_are_offered(store: Store) -> None:
    """Beside a neuron or a layer stand the other runs that have it, and no others."""

    def others(page: NeuronPage | LayerPage) -> list[int]:
        return [run.id for run in page.other_runs]

    assert others(readers.neuron(store, "toy", 0, 1, None)) == [4, 1]
    assert others(readers.neuron(store, "toy", 0, 2, None)) == [1]
    assert others(readers.neuron(store, "toy", 1, 0, 4)) == [3, 1]
    assert others(readers.layer(store, "toy", 1, None, "neuron", "asc", 9, None)) == [4, 1]


def test_the_default_run_is_known(store: Store) -> None:
    """Whether a run is the one shown without asking."""
    assert store.is_default("toy", fixture_store.TOY)
    assert not store.is_default("toy", fixture_store.TOY_PRE)
    assert not store.is_default("toy", fixture_store.FIRST_TOY)
    assert store.is_default("pre-only", fixture_store.PRE_ONLY)


def test_random_draws_every_neuron(store: Store) -> None:
    """A random neuron is one of those there are, and each of them comes up."""
    zebra, toy = ModelSet("Zebra_2.0"), ModelSet("toy")
    of_model = Counter(random_neuron(store, zebra, None, None) for _ in range(200))
    assert set(of_model) == {
        (zebra, NeuronRef(layer=layer, neuron=neuron))
        for layer, neuron in [(0, 0), (0, 1), (0, 2), (1, 0)]
    }
    of_layer = {random_neuron(store, toy, 1, fixture_store.TOY_PRE) for _ in range(5)}
    assert of_layer == {(toy, NeuronRef(layer=1, neuron=0))}
    of_all = {random_neuron(store, None, None, None)[0].model for _ in range(400)}
    assert {"toy", "wide"} <= of_all <= set(MODELS)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (("toy", 2, 0, None), "there is no layer 2"),
        (("toy", 0, 4, None), "there is no neuron 4"),
        (("toy", 10**30, 10**30, None), "there is no layer"),
        (("nobody", 0, 0, None), "no model 'nobody'"),
        (("TOY", 0, 0, None), "no model 'TOY'"),
        (("nul\0", 0, 0, None), "no model"),
        (("toy", 0, 0, fixture_store.ZEBRA), "its runs are 4, 3, 1"),
        (("toy", 0, 0, 10**30), "its runs are 4, 3, 1"),
    ],
)
def test_what_is_not_there_is_not_found(store: Store, wanted: Any, said: str) -> None:
    """A neuron that does not exist raises, and says which there are."""
    with pytest.raises(NotFound) as caught:
        readers.neuron(store, *wanted)
    assert said in caught.value.detail


def test_a_cursor_fits_one_order_only(store: Store) -> None:
    """A cursor of one sort and order is refused by another."""
    cursor = readers.layer(store, "toy", 0, None, "max", "desc", 1, None).neurons.next
    for sort in get_args(Sort):
        for order in get_args(Order):
            if (sort, order) != ("max", "desc"):
                with pytest.raises(Invalid):
                    readers.layer(store, "toy", 0, None, sort, order, 1, cursor)


def test_layers_are_sorted_by_what_has_an_index() -> None:
    """Every order of a layer's table has a database index, and every index an order."""
    sortable = {name for name, statistic in STATISTICS.items() if statistic.sorts_layers}
    assert sortable == set(schema.SORTABLE)
