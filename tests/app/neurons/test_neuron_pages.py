"""The routes of one neuron: views and how links carry them, whole contexts, sources."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import MutableMapping
from dataclasses import fields
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.testclient import TestClient

from app.drawing.numbers import exact
from app.examples.lines import REACH
from app.main import create_app
from app.neurons.view import NeuronContext, neuron_view
from app.reading.store import Store
from app.settings import Settings
from app.web import site
from app.web.frame import Frame
from app.web.links import Links
from app.web.params import VIEW_COOKIE
from indexer.store.database import open_store
from tests.helpers import readers
from tests.helpers.fixture_store import MARKUP_SOURCE
from tests.helpers.html_reader import Element, read

READINGS = ("peak", "window", "context")


def hrefs(page: Element, tag: str = "a") -> list[str]:
    """All addresses that a page links to."""
    return [link.attributes["href"] for link in page.all(tag) if "href" in link.attributes]


def asked(href: str) -> dict[str, list[str]]:
    """The query of an address."""
    return parse_qs(urlsplit(href).query)


def test_the_usual_view_is_not_named(client: TestClient) -> None:
    """Its links name no view, whether it was asked for or not; those of the control name theirs,
    so that what was chosen is in the address."""
    plain, named = read(client, "/toy/0/0"), read(client, "/toy/0/0?view=peak")
    for page in (plain, named):
        (chosen,) = (
            link for link in page.all("a") if link.attributes.get("aria-current") == "true"
        )
        assert chosen.attributes["data-view"] == "peak"
        assert chosen.attributes["href"] == "/toy/0/0?view=peak"
        control = [one for one in page.all("a") if "data-view" in one.attributes]
        assert [one.attributes["href"] for one in control] == [
            f"/toy/0/0?view={view}" for view in READINGS
        ]
        others = [href for href in hrefs(page) if "titles=" not in href]  # leads to this one again
        assert len([href for href in others if "view=" in href]) == len(READINGS)


@pytest.mark.parametrize("view", ["window", "context"])
@pytest.mark.parametrize("run", ["", "&run=1"])
def test_links_carry_an_unusual_view(client: TestClient, view: str, run: str) -> None:
    """Neighbours, related neurons, random ones and contexts keep it, beside the run."""
    page = read(client, f"/toy/0/1?view={view}{run}")
    control = [link.attributes["href"] for link in page.all("a") if "data-view" in link.attributes]
    rest = [href for href in hrefs(page) if href not in control]
    onward = [href for href in rest if re.match(r"/toy/(\d+/\d+|random)", href)]
    kept = [href for href in onward if asked(href).get("view") == [view]]
    assert {urlsplit(href).path for href in onward if href not in kept} <= {"/toy/0/1"}, "citation"
    assert len(kept) >= 4
    assert any("/contexts/" in href for href in kept)
    if run:
        assert all(asked(href).get("run") == ["1"] for href in kept if "/contexts/" in href)
    for link in hrefs(page, "link"):
        if re.fullmatch(r"/toy/\d+/\d+\?.*", link) and "view=" not in link:
            assert asked(link) in ({}, {"run": ["1"]}), "the canonical address has no view"


@pytest.mark.parametrize("path", ["/toy/random", "/toy/1/random"])
def test_random_keeps_the_view(client: TestClient, path: str) -> None:
    """A random neuron is shown as the one it was left from."""
    location = client.get(f"{path}?view=window&run=3").headers["location"]
    assert asked(location) == {"view": ["window"], "run": ["3"]}
    assert "view" not in asked(client.get(f"{path}?view=peak").headers["location"])


@pytest.mark.parametrize(
    "path", ["/toy/0/0", "/toy/0/0/sources", "/toy/0/0/contexts/0", "/toy/random"]
)
@pytest.mark.parametrize("view", ["", "peaks", "PEAK", "%00", "window&view=x"])
def test_another_view_is_invalid(client: TestClient, path: str, view: str) -> None:
    """A view that there is not is an error like any other, and says which there are."""
    response = client.get(f"{path}?view={view}")
    assert response.status_code == 422
    assert "not one of" in response.text
    assert "&#39;context&#39;" in response.text


def test_each_view_shows_every_example(client: TestClient) -> None:
    """However they are laid out, the same examples with the same exact values are there."""
    values = {}
    for view in READINGS:
        page = read(client, f"/toy/1/1?view={view}")
        values[view] = [value.text for value in page.all("b", "value")]
        assert len(page.all("details", "example")) == (
            0 if view == "context" else len(values[view])
        )
    assert values["peak"] == values["window"] == values["context"]
    assert len(values["peak"]) >= 8


def test_a_context_page_shows_what_its_json_says(client: TestClient) -> None:
    """Every example of the neuron leads to its context: its tokens, exact peak, document, kinds."""
    page = read(client, "/toy/0/0")
    links = {link.attributes["href"] for link in page.all("a", "fetch")}
    assert len(links) >= 4
    for link in links:
        shown = read(client, link)
        (json_url,) = (
            one.attributes["href"]
            for one in shown.all("link")
            if one.attributes.get("type") == "application/json"
        )
        given = client.get(json_url).json()
        example = given["example"]
        (whole,) = shown.all("div", "whole")
        assert whole.attributes["data-context"] == str(example["context_id"])
        (text,) = whole.all("p", "tok")
        titles = "".join(span.attributes.get("title", "") + ";" for span in text.walk())
        positions = [int(found) for found in re.findall(r", at (\d+), id ", titles)]
        assert positions == list(range(given["length"]))
        assert [int(found) for found in re.findall(r", id (\d+)[;:]", titles)] == example[
            "token_ids"
        ]
        (facts,) = shown.all("dl", "context-facts")
        names = [dt.text for dt in facts.all("dt")]
        told = dict(zip(names, [dd.text for dd in facts.all("dd")], strict=True))
        assert told["peak"] == f"{exact(example['peak'])} at position {example['peak_position']}"
        assert told["document"] == str(example["document_index"])
        assert told["example of kind"] == ", ".join(given["kinds"])
        assert "/toy/0/0" in hrefs(shown), "a way back"


def test_contexts_that_are_not_there(client: TestClient) -> None:
    """Neither another neuron's nor none at all; and no number that is none."""
    for path in ("/toy/0/0/contexts/3", "/toy/0/0/contexts/99", "/toy/9/0/contexts/0"):
        assert client.get(path).status_code == 404
        api = "/api/v1/models" + path.replace("/toy/", "/toy/layers/", 1)
        api = re.sub(r"layers/(\d)/(\d)", r"layers/\1/neurons/\2", api)
        assert client.get(api).json()["status"] == 404
    for bad in ("x", "-1", "9" * 30):
        assert client.get(f"/toy/0/0/contexts/{bad}").status_code == 422


def test_the_run_s_own_context(client: TestClient) -> None:
    """?run= picks the run, and the way back names it."""
    page = read(client, "/toy/0/0/contexts/0?run=1&view=window")
    assert "/toy/0/0?run=1&view=window" in hrefs(page)
    assert "Run 1" in page.text


def test_sources_have_a_page(client: TestClient) -> None:
    """All examples of each source, and the neuron's own JSON."""
    for place in ("/toy/0/0", "/toy/0/3"):
        page = read(client, f"{place}/sources?run=3")
        url = f"/api/v1/models{place.replace('/toy/', '/toy/layers/', 1)}"
        url = re.sub(r"layers/(\d)/(\d)", r"layers/\1/neurons/\2", url)
        sources = client.get(url).json()["examples"]["sources"]
        expected = [exact(one["peak"]) for some in sources for one in some["examples"]]
        values = page.all("b", "value")
        assert sorted(value.attributes["title"] for value in values) == sorted(expected)
        assert all(len(value.text) <= 6 for value in values), "three significant digits"
    assert client.get("/toy/7/0/sources").status_code == 404


def test_a_page_leaves_no_cycles_behind(sqlite_filled: str) -> None:
    """So `neurarium serve` may let Python search for them less often."""
    store = Store(open_store(sqlite_filled, create=False))
    template = site.templates().get_template("neurons/neuron.html")
    links = Links("toy")

    def show(neuron: int) -> str:
        page = readers.neuron(store, "toy", 0, neuron, None, REACH["peak"])
        context = NeuronContext(
            frame=Frame(links, json_url="/", canonical="/"),
            page=page,
            view=neuron_view(page, "peak", links),
            layout="peak",
            titled_url=None,
            origin="",
            live=None,
            notes=None,
        )
        names = {field.name: getattr(context, field.name) for field in fields(context)}
        return template.render(links=links, **names)

    show(0)  # the first fills caches
    gc.collect()
    gc.disable()
    try:
        shown = [show(neuron) for neuron in range(4)]
        assert gc.collect() == 0
    finally:
        gc.enable()
        store.close()
    assert all("</html>" in text for text in shown)


@pytest.mark.parametrize(
    "path",
    ["/toy", "/toy/0", "/toy/neurons?q=max%3E0", "/toy/search?token_id=1", "/toy/contexts/7"],
)
def test_other_pages_leave_no_page_behind(sqlite_filled: str, path: str) -> None:
    """Nothing of ours waits for the search for cycles: a macro in a template kept whole pages."""
    app = create_app(Settings(database_url=sqlite_filled))
    address, _, query = path.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": address,
        "raw_path": address.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1")],
        "server": ("127.0.0.1", 80),
        "asgi": {"version": "3.0"},
        "client": ("127.0.0.1", 1),
    }

    async def get() -> list[int]:
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        await app(dict(scope), receive, send)
        return statuses

    async def twice() -> list[object]:
        assert await get() == [200]  # the first fills caches
        while gc.collect():  # an earlier test's server takes several rounds to go
            pass
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            assert await get() == [200]
            gc.collect()
            return list(gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()

    kinds = {type(one).__module__.split(".")[0] for one in asyncio.run(twice())}
    assert not kinds & {"app", "indexer", "jinja2", "markupsafe", "numpy"}


def test_sources_stand_beside_their_share_of_the_corpus(client: TestClient) -> None:
    """Counts of the top examples as in the JSON, with the share of all contexts."""
    page = client.get("/api/v1/models/toy/layers/0/neurons/0").json()
    assert page["found_in"] == [
        {"source": "plain", "examples": 1, "share": pytest.approx(5 / 9)},
        {"source": MARKUP_SOURCE, "examples": 1, "share": pytest.approx(3 / 9)},
    ]
    summary = read(client, "/toy/0/0").all("dl", "summary")[0].text
    assert "plain 1/3 (55.6%)" in summary
    assert "share of the corpus" in summary


def test_tokens_that_never_occur_are_dimmed(client: TestClient) -> None:
    """“ sat” is promoted, and not in the corpus."""
    effects = client.get("/api/v1/models/toy/layers/0/neurons/0").json()["weights"]["logit_effects"]
    assert {token["token"]: token["corpus_count"] for token in effects["top"]} == {
        " cat": 300,
        " sat": 0,
    }
    dimmed = read(client, "/toy/0/0").all("dl", "summary")[0].all("a", "dim")
    assert [chip.text.strip() for chip in dimmed] == ["␣sat"]


@pytest.mark.parametrize("path", ["/toy/0/0", "/toy/0/0/sources"])
def test_the_view_chosen_last_is_a_cookie(client: TestClient, path: str) -> None:
    """It decides where the address does not, is part of the ETag, and nonsense in it is ignored."""

    def sent(cookie: str, query: str = "") -> tuple[str, str]:
        response = client.get(path + query, headers={"Cookie": f"{VIEW_COOKIE}={cookie}"})
        (current,) = re.findall(r'data-view="(\w+)"[^>]* aria-current="true"', response.text)
        return current, response.headers["etag"]

    (usual, plain), (window, other) = sent("peak"), sent("window")
    assert (usual, window) == ("peak", "window")
    assert plain != other
    assert sent("nonsense") == (usual, plain)
    assert sent("window", "?view=context")[0] == "context"
    unchanged = client.get(
        path, headers={"Cookie": f"{VIEW_COOKIE}=window", "If-None-Match": plain}
    )
    assert unchanged.status_code == 200
