"""The recipes of docs/recipes.md: each address and each line of Python, over the same runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import neurarium
from indexer.config import IndexConfig
from indexer.run.index import index
from neurarium.objects import Store
from tests.conftest import Silent, serving
from tests.helpers.store_copies import copy_store

TEXT = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
RECIPES = re.findall(
    r"## ([^\n]+)\n\n```sh\ncurl 'http://127.0.0.1:8000([^']+)'\n```\n\n```python\n(.+?)\n```", TEXT
)


@pytest.fixture(scope="module")
def url(demo_store: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two runs of the bundled model's neurons, one of its latents and one of its heads."""
    folder = tmp_path_factory.mktemp("recipes")
    copy_store(demo_store, folder / "runs.db")
    small = IndexConfig(model="demo", max_tokens=2_000, sample=8, top_k=2, bottom_k=1)
    for config in (
        replace(small, seed=1, max_tokens=4_000),
        replace(small, dictionary="demo:residual-sae"),
        replace(small, heads=True),
    ):
        index(config, f"sqlite:///{folder / 'runs.db'}", folder / "cache", Silent())
    return f"sqlite:///{folder / 'runs.db'}"


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[TestClient]:
    """A server over them."""
    with serving(url) as client:
        yield client


@pytest.fixture(scope="module")
def opened(url: str) -> Iterator[Store]:
    """The same, read without a server."""
    with neurarium.open(url) as store:
        yield store


def rows(found: Any) -> list[Any]:
    """The rows of a table, or the examples of a list, as in JSON."""
    if isinstance(found, list):
        return [example.data.model_dump(mode="json") for example in found]
    return list(found.to_dicts())


def test_there_are_five() -> None:
    """With a question each."""
    assert len(RECIPES) == 5
    assert TEXT.count("\n## ") == 5


@pytest.mark.parametrize(("question", "path", "line"), RECIPES)
def test_an_address_and_a_line_give_the_same(
    client: TestClient, opened: Store, connected: Store, question: str, path: str, line: str
) -> None:
    """What they find, from the API, from a database and from a server."""
    answer = client.get(path)
    assert answer.status_code == 200, question
    found = answer.json()
    items = found["items"] if "items" in found else found["examples"]["top"]
    assert items, question
    for store in (opened, connected):
        assert rows(eval(line, {"store": store}))[: len(items)] == items


def test_runs_and_sets_are_the_same_from_both(
    client: TestClient, opened: Store, connected: Store
) -> None:
    """Runs newest first, sets as on the model's page."""
    for store in (opened, connected):
        assert [run.id for run in store.runs] == [4, 3, 2, 1]
        assert [run.units.set for run in store.runs][:2] == ["heads", "residual-sae"]
        sets = store.model("demo").sets
        assert [one.page.run.id for one in sets] == [2, 4, 3]
        assert sets[2].neuron(0, 1).page.run.units.noun == "latent"


def test_texts_and_comparisons(client: TestClient, opened: Store, connected: Store) -> None:
    """As the API has them."""
    path = "/api/v1/models/demo/search/text"
    wanted = client.get(path, params={"q": "the", "limit": 100}).json()["items"]
    query = {"a": "/demo/1/349?run=2", "b": "/demo/0/3?run=2"}
    both = client.get("/api/v1/compare", params=query).json()
    assert wanted
    for store in (opened, connected):
        model = store.model("demo")
        assert model.search_text("the").to_dicts()[: len(wanted)] == wanted
        compared = model.neuron(1, 349).compare(model.neuron(0, 3))
        assert compared.model_dump(mode="json") == both
        with pytest.raises(neurarium.NeurariumError, match="not sorted by 'loud': use correlation"):
            model.differences(sort="loud")
        with pytest.raises(neurarium.NeurariumError, match="a 0 is out of range"):
            model.differences(0, 1)
