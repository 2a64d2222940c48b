"""Two neurons beside each other: the facts of their own pages, on one scale and one axis."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from starlette.testclient import TestClient

from indexer.config import IndexConfig
from indexer.run.index import index
from indexer.store.database import open_store
from indexer.store.writing.run import write_run
from tests.conftest import Silent, serving
from tests.helpers.fixture_neurons import ORDINARY
from tests.helpers.fixture_store import (
    FIRST_TOY,
    MARKUP_SOURCE,
    SCRIPT,
    TOY_NEURONS,
    TOY_PRE,
    RunOf,
)
from tests.helpers.html_reader import Element, read


def neuron(client: TestClient, model: str, layer: int, index: int, run: int | None = None) -> Any:
    """The JSON of a neuron's own page."""
    path = f"/api/v1/models/{model}/layers/{layer}/neurons/{index}"
    return client.get(path, params={} if run is None else {"run": run}).json()


def compared(client: TestClient, a: str, b: str) -> Any:
    """The JSON of two neurons."""
    response = client.get("/api/v1/compare", params={"a": a, "b": b})
    assert response.status_code == 200, response.text
    return response.json()


def column(page: Element, place: int) -> dict[str, str]:
    """One neuron's column of the table of both, by the rows' names."""
    rows = [row for table in page.all("table", "both") for row in table.all("tr") if row.all("td")]
    cells = {row.all("th")[0].text: [cell.text for cell in row.all("td")] for row in rows}
    return {name: texts[min(place, len(texts) - 1)] for name, texts in cells.items()}  # equal: one


def test_both_are_as_on_their_own_pages(any_client: TestClient) -> None:
    """Of one model, of two models, of two runs: each side is the neuron's own JSON."""
    for a, b, first, second in (
        ("toy/0/0", "1/1", ("toy", 0, 0), ("toy", 1, 1)),
        ("toy/0/0", "Zebra_2.0/0/1", ("toy", 0, 0), ("Zebra_2.0", 0, 1)),
        ("toy/1/1", "/toy/1/1?run=1", ("toy", 1, 1), ("toy", 1, 1, FIRST_TOY)),
    ):
        page = compared(any_client, a, b)
        assert page["a"] == neuron(any_client, *first)
        assert page["b"] == neuron(any_client, *second)


def test_one_scale_and_one_axis(any_client: TestClient) -> None:
    """The scale is the larger of the two; the axis holds the extremes of both."""
    page = compared(any_client, "toy/0/0", "toy/1/1")
    both = (page["a"], page["b"])
    assert page["scale"] == max(side["scale"] for side in both)
    for side in both:
        edges = [*side["histogram"]["edges"], *side["peak_histogram"]["edges"]]
        assert page["low"] <= min(edges) <= max(edges) <= page["high"]
        assert page["low"] <= side["stats"]["min"] <= side["stats"]["max"] <= page["high"]
    html = read(any_client, "/compare?a=toy/0/0&b=1/1")
    (shown,) = html.all("figure", "legend")
    low = min(0, *(side["stats"]["min"] for side in both))
    high = max(0, *(side["stats"]["max"] for side in both))
    steps = [sum(int(abs(end) / page["scale"] * 10 + 0.5) for end in (low, high)) + 1]
    assert [len(shown.all("i"))] == steps, "only steps that either neuron reaches"
    charts = html.all("svg", "chart")
    assert len(charts) == 4
    axes = {tuple(text.text for text in chart.all("text")[-1:]) for chart in charts}
    assert len(axes) == 1, "all end at the same tick"


def test_the_table_can_be_read_across(any_client: TestClient) -> None:
    """A column a neuron, each a link; its numbers are those of the neurons' pages. What is equal
    stands in a table of its own."""
    html = read(any_client, f"/compare?a=toy/0/0&b=%2Ftoy%2F0%2F0%3Frun%3D{TOY_PRE}")
    for place, path in ((0, "/toy/0/0"), (1, f"/toy/0/0?run={TOY_PRE}")):
        facts = column(html, place)
        own = read(any_client, path)
        shown = {
            one.all("dt")[0].text: one.all("dd")[0].text
            for strip in own.all("dl", "stats")
            for one in strip.all("div")
        }
        for label in ("max", "min", "mean", "std", "skewness", "kurtosis", "density > 0"):
            assert facts.get(label, "—") == shown.get(label, "—")
        head = html.all("table", "both")[0].all("thead")[0].all("a")[place]
        assert head.attributes["href"] == path
    assert column(html, 1)["hook point"] == "blocks.0.mlp.hook_pre"


def test_contexts_of_both_are_marked(any_client: TestClient) -> None:
    """Contexts that are top examples of both are found and marked on either side."""
    page = compared(any_client, "toy/0/0", "toy/1/1")
    tops = [
        {one["context_id"]: one["rank"] for one in page[side]["examples"]["top"]} for side in "ab"
    ]
    wanted = sorted((tops[0][one], tops[1][one]) for one in tops[0].keys() & tops[1].keys())
    assert wanted, "the fixture has such contexts"
    assert [(one["rank_a"], one["rank_b"]) for one in page["shared"]] == wanted
    html = read(any_client, "/compare?a=toy/0/0&b=1/1")
    sides = [side for side in html.all("div", "side") if "data-max" in side.attributes]
    for side in sides:
        assert side.all("span", "also")
    itself = compared(any_client, "toy/0/0", "toy/0/0")
    assert len(itself["shared"]) == len(tops[0])


def test_runs_share_contexts_by_their_tokens(any_client: TestClient) -> None:
    """Of two runs over one corpus the same tokens are the same context."""
    page = compared(any_client, "toy/1/1", "/toy/0/1?run=1")
    assert len(page["shared"]) == len(page["a"]["examples"]["top"]), "one neuron of two runs"


def test_another_corpus_shares_nothing(any_url: str) -> None:
    """Where corpora differ there is nothing to be the same, and the page says so."""
    engine = open_store(any_url, create=True)
    for name in ("one", "other"):
        run = RunOf(name, TOY_NEURONS)
        record = replace(run.record(), corpus=name)
        write_run(engine, record, run.blocks(), run.context_records())
    engine.dispose()
    with serving(any_url) as client:
        assert compared(client, "one/0/0", "other/0/0")["shared"] is None
        assert compared(client, "one/0/0", "one/0/0")["shared"]
        html = read(client, "/compare?a=one/0/0&b=other/0/0")
        assert "they share no contexts" in html.text
        assert not html.all("span", "also")


def test_peaks_correlate_over_the_sample_of_both(any_url: str) -> None:
    """Pearson's, of what is kept; none where one never varies, or where samples are others."""
    one, other = np.array([1.0, 2.5, -0.5, 2.0]), np.array([3.0, 1.0, 0.5, -0.25])
    kept = ((one, 4), (other, 8), (np.full(4, 0.5), 4))
    neurons = tuple(
        replace(
            ORDINARY,
            maximum=unit * 0.625,
            facts={**ORDINARY.facts, "sample_peaks": tuple(peaks / unit)},
        )
        for peaks, unit in kept
    )
    engine = open_store(any_url, create=True)
    for model, identity in (("first", "same"), ("second", "same"), ("third", "not"), ("old", "")):
        run = RunOf(model, (neurons, neurons))
        record = replace(run.record(), sample_identity=identity)
        write_run(engine, record, run.blocks(), run.context_records())
    engine.dispose()
    with serving(any_url) as client:
        for b in ("first/1/1", "second/0/1"):
            found = compared(client, "first/0/0", b)["correlation"]
            assert found["value"] == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-12)
            assert (found["contexts"], found["a"], found["b"]) == (4, one.tolist(), other.tolist())
        assert compared(client, "first/0/0", "first/0/2")["correlation"]["value"] is None
        assert compared(client, "first/0/0", "second/0/0")["correlation"]["value"] == pytest.approx(
            1
        )
        for a, b in (("first/0/0", "third/0/0"), ("old/0/0", "old/0/1")):
            assert compared(client, a, b)["correlation"] is None
        html = read(client, "/compare?a=first/0/0&b=second/0/1")
        (dots,) = html.all("path", "dots")
        assert dots.attributes["d"].count("M") == 4
        assert f"their peaks correlate at −{-np.corrcoef(one, other)[0, 1]:.2f}." in html.text
        html = read(client, "/compare?a=first/0/0&b=first/0/2")
        assert "The peaks of one are constant" in html.text
        html = read(client, "/compare?a=first/0/0&b=third/0/0")
        assert "fewer than 30 contexts in common" in html.text
        assert not html.all("path", "dots")


def test_runs_over_one_corpus_have_one_sample(
    demo_store: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Told by the tokens that were drawn: the seed decides, the lists' lengths do not. Of two
    samples the contexts that both have are compared."""
    folder = tmp_path_factory.mktemp("again")
    url = f"sqlite:///{folder / 'runs.db'}"
    config = IndexConfig(model="demo", max_tokens=6_000, sample=40, top_k=3, bottom_k=2)
    for name, other in (("a", {}), ("b", {"top_k": 5}), ("c", {"seed": 1})):
        index(replace(config, name=name, **other), url, folder / "cache", Silent())
    with serving(url) as client:
        itself = compared(client, "a/1/10", "b/1/10")["correlation"]
        assert (itself["contexts"], itself["value"]) == (40, pytest.approx(1))
        assert itself["a"] == itself["b"]
        other = compared(client, "a/1/10", "c/1/10")["correlation"]
        theirs = compared(client, "c/1/10", "a/1/10")["correlation"]
        peaks = dict(zip(itself["context_ids"], itself["a"], strict=True))
        common = {*other["context_ids"]}
        assert 30 <= len(common) == other["contexts"] < 40
        assert common == {*theirs["context_ids"]}, "one corpus has one numbering"
        assert other["a"] == [peaks[one] for one in other["context_ids"]]
        assert other["b"] == pytest.approx(other["a"], rel=1e-5)
        assert other["value"] == pytest.approx(1)
        html = read(client, "/compare?a=a/1/10&b=c/1/10")
        assert f"Over the {len(common)} contexts that both samples have" in html.text
    with serving(demo_store) as client:
        found = compared(client, "demo/1/10", "demo/1/11")["correlation"]
        assert found["contexts"] == 128
        stored = [one for one in found["context_ids"] if one is not None]
        assert len(found["context_ids"]) == 128
        assert stored
        page = read(client, "/compare?a=demo/1/10&b=1/11")
        linked = [
            one.attributes["href"]
            for svg in page.all("svg", "scatter")
            for one in svg.walk()
            if one.tag == "a"
        ]
        assert linked == [f"/demo/contexts/{one}" for one in stored]
        # Its peaks are those of the neuron in that very context.
        top = {e["context_id"]: e["peak"] for e in neuron(client, "demo", 1, 10)["examples"]["top"]}
        places = [at for at, one in enumerate(found["context_ids"]) if one in top]
        assert places
        for at in places:
            expected = top[found["context_ids"][at]]
            assert found["a"][at] == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    ("query", "status", "letter", "told"),
    [
        ({"a": "toy/0/99"}, 404, "a", "neurons 0 to 3"),
        ({"a": "toy/0/0", "b": "what is"}, 422, "b", "Couldn’t find"),
        ({"a": "toy/0/0", "b": "toy/1"}, 422, "b", "does not name a single neuron"),
        ({"a": "nobody/0/0", "b": "toy/0/0"}, 404, "a", "no model “nobody”"),
        ({"a": "0/0"}, 422, "a", "put a model's name first"),
        ({"a": "/toy/0/0?run=2"}, 404, "a", "no run 2"),
    ],
)
def test_what_is_wrong_stands_beside_its_box(
    any_client: TestClient, query: dict[str, str], status: int, letter: str, told: str
) -> None:
    """The page says what is wrong, and what was typed stays in its box; JSON has the same error."""
    response = any_client.get("/compare", params=query)
    assert response.status_code == status
    assert "etag" not in response.headers
    html = read(any_client, str(response.request.url.raw_path, "ascii"), status)
    assert told in html.by_id(f"{letter}-wrong").text
    for box, text in query.items():
        assert html.by_id(box).attributes["value"] == text
    answer = any_client.get("/api/v1/compare", params={"a": "toy/0/0", "b": "toy/0/0"} | query)
    assert (answer.status_code, told in answer.json()["detail"]) == (status, True)


def test_the_second_is_not_blamed_for_the_first(any_client: TestClient) -> None:
    """What would be of the first's model is not judged where that is not found; all else is."""
    for a, b, wrong in (
        ("nobody/0/0", "0/0", "a"),
        ("toy/0/99", "0/1", "a"),
        ("nobody/0/0", "what is", "ab"),
        ("nobody/0/0", "none/0/0", "ab"),
        ("toy/0/0", "0/99", "b"),
    ):
        html = read(any_client, f"/compare?{urlencode({'a': a, 'b': b})}", 404)
        told = [one.attributes["id"] for one in html.all("span", "wrong")]
        assert told == [f"{letter}-wrong" for letter in wrong], (a, b)
        assert html.by_id("b").attributes["value"] == b


def test_what_names_its_model_is_of_the_default_run(any_client: TestClient) -> None:
    """Beside another run too: so the link that changes sides leads to the same two."""
    first, other = "toy/1/1", f"/toy/1/1?run={FIRST_TOY}"
    page, turned = compared(any_client, first, other), compared(any_client, other, first)
    assert (turned["a"], turned["b"]) == (page["b"], page["a"])
    assert turned["a"]["run"]["id"] != turned["b"]["run"]["id"]


def test_with_one_neuron_the_other_is_asked_for(any_client: TestClient) -> None:
    """The link of a neuron's page leads to the form, with this neuron in its first box."""
    _, link = [a for a in read(any_client, "/toy/0/0").all("a") if a.text == "Compare"]
    html = read(any_client, link.attributes["href"])
    assert html.by_id("a").attributes["value"] == "toy/0/0"
    assert html.by_id("b").attributes["value"] == ""
    assert not html.all("table")
    assert read(any_client, "/compare").by_id("a").attributes["value"] == ""
    answer = any_client.get("/api/v1/compare?a=toy/0/0")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("b is empty")


def test_hostile_tokens_stay_text(any_client: TestClient) -> None:
    """Tokens and names that are markup are shown, and nothing of them becomes an element."""
    html = read(any_client, "/compare?a=toy/1/1&b=0/0")
    assert SCRIPT in html.text
    assert MARKUP_SOURCE not in [element.tag for element in html.walk()]
    assert all(script.attributes.get("src") for script in html.all("script"))
    wrong = any_client.get("/compare", params={"a": '"><script>alert(1)</script>'}).text
    assert not re.search(r"<script>", wrong)


def test_the_first_ten_come_first(any_client: TestClient) -> None:
    """No more than ten examples a side are to be seen at first."""
    html = read(any_client, "/compare?a=toy/0/0&b=1/1")
    for side in html.all("div", "side"):
        assert len([one for lists in side.all("ol")[:1] for one in lists.all("li")]) <= 10
