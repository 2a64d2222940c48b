"""A layer's picture out of the store, in each kind of database, against plain Python."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import get_args

import pytest
from sqlalchemy import create_engine, event
from starlette.testclient import TestClient

from app.errors import NotFound
from app.models.picture import LEVELS, MOST_NEURONS
from app.models.schemas import PictureStatistic
from app.reading.store import Store
from indexer.store.database import open_store
from tests.conftest import serving
from tests.helpers import fixture_store, readers
from tests.helpers.fixture_neurons import Neuron
from tests.helpers.fixture_store import CONTEXTS, RUNS, TEXTS, RunOf, wide_layer

PICTURE = "/api/v1/models/{}/layers/{}/picture"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """The hand-written store, in each kind of database."""
    name = "sqlite_filled" if request.param == "sqlite" else "postgres_filled"
    engine = create_engine(request.getfixturevalue(name))
    yield Store(engine)
    engine.dispose()


def value_of(neuron: Neuron, stat: PictureStatistic) -> float | None:
    """A neuron's statistic as the picture gives it."""
    value = {
        "max": neuron.maximum,
        "density": neuron.density,
        "effect_kurtosis": neuron.effect_kurtosis,
    }[stat]
    return value if math.isfinite(value) else None


@pytest.mark.parametrize("stat", get_args(PictureStatistic))
def test_a_picture_has_every_neuron_s_own_value(store: Store, stat: PictureStatistic) -> None:
    """For every layer of every run: values, dead neurons and tokens in neuron order."""
    for run_id, run in enumerate(RUNS, 1):
        for layer, neurons in enumerate(run.layers):
            drawn = readers.picture(store, run.model, layer, run_id, stat, 0)
            assert (drawn.neurons, drawn.first, drawn.run.id) == (len(neurons), 0, run_id)
            assert drawn.values == [value_of(neuron, stat) for neuron in neurons]
            assert drawn.dead == [neuron.dead for neuron in neurons]
            best = [neuron.top[0] for neuron in neurons]
            ids = [CONTEXTS[one.context].token_ids[one.peak_position] for one in best]
            assert drawn.peak_tokens == [TEXTS[token_id] for token_id in ids]


@pytest.mark.parametrize("stat", get_args(PictureStatistic))
def test_colours_are_of_the_living_neurons(store: Store, stat: PictureStatistic) -> None:
    """What parts the colours, and the ends, leave out the dead and those without a value."""
    for run_id, run in enumerate(RUNS, 1):
        for layer, neurons in enumerate(run.layers):
            drawn = readers.picture(store, run.model, layer, run_id, stat, 0)
            known = [
                (value, index)
                for index, neuron in enumerate(neurons)
                if not neuron.dead and (value := value_of(neuron, stat)) is not None
            ]
            ranked = sorted(value for value, _ in known)
            assert drawn.n_dead == sum(neuron.dead for neuron in neurons)
            assert drawn.counted == len(ranked)
            if not ranked:
                ends = (drawn.lowest, drawn.highest, drawn.highest_neuron, drawn.cuts)
                assert ends == (None, None, None, [])
                continue
            assert (drawn.lowest, drawn.highest) == (ranked[0], ranked[-1])
            assert drawn.highest_neuron == min(i for value, i in known if value == ranked[-1])
            for level, cut in zip(LEVELS, drawn.cuts, strict=True):
                assert sum(value <= cut for value in ranked) * 100 >= level * len(ranked)
                assert sum(value < cut for value in ranked) * 100 < level * len(ranked)


def test_a_picture_is_one_read(sqlite_filled: str) -> None:
    """One SELECT of the layer's columns, by their key, and none of its neurons one by one."""
    engine = create_engine(sqlite_filled)
    asked: list[tuple[str, tuple[object, ...]]] = []
    event.listen(
        engine,
        "before_cursor_execute",
        lambda c, cursor, statement, values, *_: asked.append((statement, values)),
    )
    readers.picture(Store(engine), "wide", 1, None, "density", 0)
    ((statement, values),) = [one for one in asked if "FROM neuron" in one[0]]
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
    engine.dispose()
    assert "FROM neuron_columns" in statement
    assert len(plan) == 1, plan
    assert "(run_id=? AND name=? AND layer=?)" in plan[0][3]


@pytest.fixture(scope="module")
def broad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of a store with one layer that is wider than a picture."""
    url = f"sqlite:///{tmp_path_factory.mktemp('broad') / 'store.db'}"
    engine = open_store(url, create=True)
    RunOf("broad", (wide_layer(MOST_NEURONS + 5),)).write(engine)
    engine.dispose()
    with serving(url) as client:
        yield client


def test_a_wide_layer_comes_in_parts(broad: TestClient) -> None:
    """At most 4,096 at a time, in colours of the whole layer; put together they are the list."""
    path = PICTURE.format("broad", 0)
    first, rest = (broad.get(path, params={"from": start}).json() for start in (0, MOST_NEURONS))
    assert (first["first"], len(first["values"])) == (0, MOST_NEURONS)
    assert (rest["first"], len(rest["values"])) == (MOST_NEURONS, 5)
    neurons = wide_layer(MOST_NEURONS + 5)
    assert first["values"] + rest["values"] == [neuron.maximum for neuron in neurons]
    assert first["dead"] + rest["dead"] == [neuron.dead for neuron in neurons]
    for name in ("cuts", "lowest", "highest", "highest_neuron", "counted", "n_dead", "neurons"):
        assert first[name] == rest[name]
    assert broad.get(path, params={"from": MOST_NEURONS + 5}).status_code == 404


def test_the_json_is_exactly_this(any_client: TestClient) -> None:
    """Every field of a small layer's picture, written out by hand."""
    given = any_client.get(PICTURE.format("toy", 0), params={"stat": "density"}).json()
    assert given.pop("run")["id"] == fixture_store.TOY
    tokens = given.pop("peak_tokens")
    assert tokens == [
        TEXTS[CONTEXTS[neuron.top[0].context].token_ids[neuron.top[0].peak_position]]
        for neuron in fixture_store.TOY_NEURONS[0]
    ]
    assert given == {
        "model": "toy",
        "layer": 0,
        "hook_point": "mlp.hook_post",
        "sample": {"contexts": 8, "positions": 20},
        "stat": "density",
        "neurons": 4,
        "first": 0,
        "values": [0.5, 0.0, 0.0, 0.5],
        "dead": [False, True, True, False],
        "n_dead": 2,
        "counted": 2,
        "lowest": 0.5,
        "highest": 0.5,
        "highest_neuron": 0,
        "cuts": [0.5] * 9,
    }


def test_the_default_picture_is_of_maxima(client: TestClient) -> None:
    """Without ?stat= it is max; another run can be named."""
    path = PICTURE.format("toy", 1)
    assert client.get(path).json() == client.get(f"{path}?stat=max").json()
    assert client.get(f"{path}?run=1").json()["values"] == [
        neuron.maximum for neuron in RUNS[0].layers[1]
    ]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("toy/layers/2/picture", 404),
        ("toy/layers/0/picture?from=4", 404),
        ("toy/layers/0/picture?from=-1", 422),
        ("toy/layers/0/picture?from=x", 422),
        ("toy/layers/0/picture?stat=mean", 422),
        ("toy/layers/0/picture?run=2", 404),
        ("nobody/layers/0/picture", 404),
        (f"toy/layers/0/picture?from={10**30}", 404),
    ],
)
def test_what_is_not_there_is_said(any_client: TestClient, path: str, status: int) -> None:
    """One JSON error, never a made-up picture."""
    response = any_client.get(f"/api/v1/models/{path}")
    assert response.status_code == status
    assert response.json()["status"] == status


def test_the_end_of_a_layer_is_named(store: Store) -> None:
    """A picture that would begin after the last neuron says which there are."""
    with pytest.raises(NotFound, match="neurons 0 to 3: a picture cannot begin at 4"):
        readers.picture(store, "toy", 0, None, "max", 4)
