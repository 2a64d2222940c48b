"""Statistics that the search computes: selectivity by source, and the most similar output weights,
against the neurons' own JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.search.numbers.grammar import GrammarError, parse, selected_source, selectivity
from tests.conftest import serving

API = "/api/v1/models/demo"


@pytest.fixture(scope="module")
def demo(demo_store: str) -> Iterator[TestClient]:
    """A client over the demo, really indexed."""
    with serving(demo_store) as client:
        yield client


def found(client: TestClient, q: str, limit: int = 1000) -> Any:
    """The results of a query."""
    answer = client.get(f"{API}/neurons", params={"q": q, "limit": limit})
    assert answer.status_code == 200, answer.text
    return answer.json()


def neuron(client: TestClient, row: Any) -> Any:
    """A row's neuron as its own page has it."""
    return client.get(f"{API}/layers/{row['layer']}/neurons/{row['neuron']}").json()


def by_hand(page: Any, source: str) -> float:
    """The index of Morcos et al. 2018, of a neuron's mean peaks."""
    means = {one["source"]: one["mean_peak"] for one in page["examples"]["sources"]}
    others = [mean for name, mean in means.items() if name != source and mean is not None]
    own, other = means[source], math.fsum(others) / len(others)
    return float((own - other) / (abs(own) + abs(other)))


def test_selectivity_is_that_of_the_pages(demo: TestClient) -> None:
    """Descending, and as each neuron's mean peaks by source say; every 60th is checked."""
    rows = found(demo, "sort:-selectivity(python)")["items"]
    values = [row["computed"]["selectivity(python)"] for row in rows]
    assert values == sorted(values, reverse=True)
    assert len(rows) == 1000
    for row, value in list(zip(rows, values, strict=True))[::60]:
        assert value == pytest.approx(by_hand(neuron(demo, row), "python"), rel=1e-9)


def test_selectivity_is_compared(demo: TestClient) -> None:
    """What is above and what is not make up all neurons."""
    above, below = (found(demo, f"selectivity(bible){sign}0.3 layer:1") for sign in (">", "<="))
    assert above["total"] > 0
    assert above["total"] + below["total"] == found(demo, "layer:1")["total"]
    assert all(row["computed"]["selectivity(bible)"] > 0.3 for row in above["items"])
    assert above["query"] == "selectivity(bible)>0.3 layer:1"


def test_alike_names_the_most_similar_neuron(demo: TestClient) -> None:
    """As the neuron's own list says."""
    rows = found(demo, "alike>0.3 dead:no sort:-alike", 40)["items"]
    assert rows
    for row in rows[::8]:
        first = neuron(demo, row)["weights"]["alike"][0]
        assert row["computed"]["alike"] == first["value"]
        assert row["partner"] == {"layer": first["layer"], "neuron": first["neuron"]}
    live, every = found(demo, "alike>0.1 dead:no")["total"], found(demo, "alike>0.1")["total"]
    assert every == live, "dead neurons are left out unless they are asked for"
    assert found(demo, "alike>-2 dead:yes")["total"] == found(demo, "dead:yes")["total"] > 0
    assert found(demo, "max>1", 1)["items"][0]["partner"] is None
    assert found(demo, "max>1", 1)["items"][0]["computed"] == {}


@pytest.mark.parametrize("name", ["fr", "two words", 'a "quoted" name', "back\\slash", "(x)", "é"])
def test_the_name_of_a_source_reads_back(name: str) -> None:
    """Whatever it is called."""
    assert selected_source(selectivity(name)) == name
    query = parse(f"{selectivity(name)}>=0.5 max>1 sort:-{selectivity(name)}")
    assert [one.name for one in query.comparisons] == [selectivity(name), "max"]
    assert query.order.name == selectivity(name)
    assert query.order.descending
    assert parse(str(query)) == query


@pytest.mark.parametrize(
    ("text", "wrong", "said"),
    [
        ("selectivity(fr)", "selectivity(fr)", "compare it with a number"),
        ("selectivity(fr)>x", "x", "this is not a number"),
        ("selectivity>1", "selectivity", "no such statistic"),
    ],
)
def test_what_is_refused(text: str, wrong: str, said: str) -> None:
    """With its place in the query."""
    with pytest.raises(GrammarError) as refused:
        parse(text)
    assert said in refused.value.message
    assert text[refused.value.start : refused.value.end] == wrong


def test_a_source_that_is_not_there_is_said(demo: TestClient) -> None:
    """With the sources that are."""
    answer = demo.get(f"{API}/neurons", params={"q": "max>1 selectivity(fr)>0"})
    assert answer.status_code == 422
    assert "its sources are bible, wordnet, python, austen" in answer.json()["detail"]
