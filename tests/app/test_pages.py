"""The pages: they show what their JSON says, and their links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from indexer.config import RESERVED_NAMES, check_name
from indexer.errors import NeurariumError
from indexer.store.database import open_store
from tests.conftest import serving
from tests.helpers.fixture_store import RunOf, wide_layer
from tests.helpers.html_reader import Element, elements, read

PLACES = [(layer, neuron) for layer in range(2) for neuron in range(4)]


def shown(text: str) -> float:
    """A number as a reader reads it."""
    plain = text.strip().replace("\N{MINUS SIGN}", "-").replace(",", "").lstrip("+")
    return float(plain.removesuffix("%")) / (100 if plain.endswith("%") else 1)


def terms(page: Element) -> dict[str, str]:
    """The first definition list of a page: its statistics."""
    (stats, *_) = page.all("dl", "stats")
    names = [dt.text.strip() for dt in stats.all("dt")]
    return dict(zip(names, [dd.text.strip() for dd in stats.all("dd")], strict=True))


def section(page: Element, kind: str) -> Element:
    """The section of one kind of examples."""
    (found,) = (
        element
        for element in page.all("section")
        if element.attributes.get("aria-labelledby") == kind
    )
    return found


# --- The same numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "neuron"), PLACES)
def test_a_neuron_s_page_shows_the_numbers_of_its_json(
    client: TestClient, layer: int, neuron: int
) -> None:
    """The statistics of the page are those of the JSON, to three digits; — stands for null."""
    page = read(client, f"/toy/{layer}/{neuron}")
    stats = client.get(f"/api/v1/models/toy/layers/{layer}/neurons/{neuron}").json()["stats"]
    on_page = terms(page)
    for name in ("max", "min", "mean", "std", "skewness", "kurtosis", "density > 0"):
        value = stats[name.split()[0]]
        if value is None:
            assert on_page[name] == "—"
        else:
            assert shown(on_page[name]) == pytest.approx(value, rel=0.005)
    flags = [flag.text for heading in page.all("h1") for flag in heading.all("span", "flag")]
    assert flags == (["dead"] if stats["dead"] else [])


@pytest.mark.parametrize(("layer", "neuron"), PLACES)
def test_a_neuron_s_page_shows_the_examples_of_its_json(
    client: TestClient, layer: int, neuron: int
) -> None:
    """Each kind has its examples in their order, with the exact peak (of bottom: the trough)."""
    page = read(client, f"/toy/{layer}/{neuron}")
    kinds = client.get(f"/api/v1/models/toy/layers/{layer}/neurons/{neuron}").json()["examples"]
    expected = {kind: some for kind, some in kinds.items() if some or kind != "sources"}
    for kind in expected.keys() & {"bands", "sources"}:
        expected[kind] = [some for group in kinds[kind] for some in group["examples"]]
    for kind, examples in expected.items():
        here = section(page, kind)
        values = [shown(value.attributes["title"]) for value in here.all("b", "value")]
        exact = "trough" if kind == "bottom" else "peak"
        assert sorted(values) == sorted(some[exact] for some in examples)
        if kind not in ("bands", "sources"):
            assert values == [some[exact] for some in examples]
        lines = here.all("li")
        assert len(lines) == len(examples)
        if kind in ("bands", "sources"):
            continue
        for line, some in zip(lines, examples, strict=True):
            sources = [source.text for source in line.all("span", "source")]
            assert sources == ([some["source"]] if some["source"] else [])
            assert f"context {some['context_id']}" in line.text
            at = some[f"{exact}_position"]
            if some["start"] <= at < some["start"] + len(some["tokens"]):
                marks = line.all("mark")
                assert len(marks) == 1, "the token aligned on"
                assert f"at {at}," in marks[0].attributes["title"]


@pytest.mark.parametrize(
    "query", ["?sort=neuron", "?sort=max", "?sort=kurtosis&order=asc&limit=2", "?run=1&sort=neuron"]
)
def test_a_layer_s_page_lists_what_its_json_lists(client: TestClient, query: str) -> None:
    """Rows come in the order of the JSON, each with its own numbers."""
    page = read(client, f"/toy/1{query}")
    items = client.get(f"/api/v1/models/toy/layers/1/neurons{query}").json()["items"]
    rows = [row for row in page.all("tr") if row.all("td")]
    assert len(rows) == len(items)
    for row, item in zip(rows, items, strict=True):
        (link,) = row.all("a", "name")
        assert link.text == str(item["neuron"])
        cells = [cell.text.split()[0] for cell in row.all("td", "num")]
        names = ("max", "density", "mean", "kurtosis", "lookup", "effect_kurtosis")
        known = [
            name
            for name in names
            if f"sort={name}" in query or any(other[name] is not None for other in items)
        ]
        values = [item[name] for name in known]
        for cell, value in zip(cells, values, strict=True):
            assert (
                (cell == "—") if value is None else shown(cell) == pytest.approx(value, rel=0.005)
            )


def test_a_model_s_page_lists_its_layers(client: TestClient) -> None:
    """A row a layer: neurons, dead, maximum, mean maximum, mean density."""
    page = read(client, "/toy")
    layers = client.get("/api/v1/models/toy").json()["layers"]
    rows = [row for row in page.all("tr") if row.all("td")]
    for row, layer in zip(rows, layers, strict=True):
        numbers = [shown(cell.text.split()[0]) for cell in row.all("td", "num")]
        names = ("neurons", "dead", "max", "mean_max", "mean_density")
        assert numbers == pytest.approx([layer[name] for name in names], rel=0.005)


def test_the_first_page_lists_the_models(client: TestClient) -> None:
    """A row a model: its name, layers, units, corpus, tokens, and how many runs it has."""
    page = read(client, "/")
    items = client.get("/api/v1/models").json()["items"]
    rows = [row for row in page.all("tr") if row.all("td")]
    for row, item in zip(rows, items, strict=True):
        (name,) = row.all("a", "name")
        assert name.text == item["model"]
        numbers = [int(cell.text.replace(",", "")) for cell in row.all("td", "num")]
        assert numbers == [item["n_layers"], 1234]
        units = [link.text for link in row.all("a") if link.text.endswith("neurons")]
        assert units == [f"{item['n_neurons']:,} neurons"]
        assert item["run"]["corpus"] in row.text
        assert (f"of {item['runs']}" in row.text) == (item["runs"] > 1)


def test_a_run_s_page_shows_all_its_provenance(client: TestClient) -> None:
    """Every value of the provenance stands on the page, as text."""
    page = read(client, "/runs/3")
    run = client.get("/api/v1/runs/3").json()

    def leaves(value: Any) -> Iterator[Any]:
        if isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                yield from leaves(inner)
        else:
            yield value

    for value in leaves(run["provenance"]):
        said = {None: "—", False: "no"}.get(value, str(value))
        assert said in page.text
    assert run["content_hash"] in page.text


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?limit=2",
        "/toy",
        "/toy?run=1",
        "/toy/0",
        "/toy/0?sort=max&order=asc&limit=2",
        "/toy/0?run=4",
        "/toy/1/1",
        "/toy/1/0?run=4",
        "/runs/2",
    ],
)
def test_a_page_names_its_own_json(client: TestClient, path: str) -> None:
    """The page's link to JSON gives the same object: the same run, order and part of a list."""
    page = read(client, path)
    (link,) = (
        link.attributes["href"]
        for link in page.all("link")
        if link.attributes.get("type") == "application/json"
    )
    response = client.get(link)
    assert response.status_code == 200
    given = response.json()
    if "items" in given:
        names = [name.text for name in page.all("a", "name") if " " not in name.text]  # no gallery
        assert names == [str(item.get("neuron", item.get("model", ""))) for item in given["items"]]
    elif "provenance" in given:
        assert f"Run {given['id']}" in page.text
    else:
        assert f"Run {given['run']['id']}" in page.text


def test_a_run_that_was_named_goes_on_in_every_link(client: TestClient) -> None:
    """On a page with ?run= all links into the model keep it, but the one back to the default."""
    for path in ("/toy?run=1", "/toy/0?run=1", "/toy/0/0?run=1"):
        page = read(client, path)
        links = [link.attributes["href"] for link in page.all("a")]
        into = [link for link in links if re.match(r"/toy(/|\?|$)", link)]
        assert [link for link in into if not re.search(r"run=|[?&]b=", link)] == ["/toy"]
        others = {match[1] for link in into if (match := re.search(r"run=(\d+)", link))}
        assert others == {"1", "3", "4"}, "the other runs are there to be picked"


def test_the_default_run_is_not_called_another(client: TestClient) -> None:
    """?run= with the run that is shown anyway changes nothing but the links to JSON."""
    for path in ("/toy", "/toy/0", "/toy/0/0", "/wide/1/1"):
        number = 6 if path.startswith("/wide") else 3
        page = read(client, f"{path}?run={number}")
        assert "You are looking at run" not in page.text
        into = [link.attributes["href"] for link in page.all("a") if link.attributes["href"]]
        assert not [link for link in into if re.match(rf"/(toy|wide).*run={number}", link)]
    assert "You are looking at run 4" in read(client, "/toy/1/0?run=4").text


# --- Links --------------------------------------------------------------------------------------


def choices(link: str) -> set[tuple[str, str]]:
    """What a link chooses of a page that shows the same in many ways: its kind of page, with each
    condition, order, picture and view. Nothing where the link chooses none of these."""
    path, _, query = link.partition("?")
    if not re.search(r"\b(sort|order|picture|view|titles|q)=", query):
        return set()
    return {
        (re.sub(r"\d+", "N", path), re.sub(r"[\d.]+", "N", part))
        for part in re.split(r"[&+]", query)
    }


def test_no_link_is_dead(client: TestClient) -> None:
    """Every link of every page leads somewhere on this server. Of the ways to show a kind of page
    each choice is followed, not each choice with each other."""
    waiting, seen = ["/"], set()
    chosen: set[tuple[str, str]] = set()
    while waiting:
        path = waiting.pop()
        if path in seen or ((choice := choices(path)) and choice <= chosen):
            continue
        seen.add(path)
        chosen |= choice
        response = client.get(path)
        assert response.status_code < 400, path
        if not response.headers.get("content-type", "").startswith("text/html"):
            continue
        page = elements(response.text)
        ids = [one.attributes["id"] for one in page.walk() if "id" in one.attributes]
        assert len(ids) == len(set(ids)), f"{path} uses an id twice"
        for element in page.walk():
            for name in ("href", "src"):
                link = element.attributes.get(name)
                if link is None:
                    continue
                if link.startswith("#"):
                    assert link[1:] in ids, f"{link} on {path}"
                    continue
                assert re.match(r"/(?!/)", link), f"{link} on {path}"
                if not re.match(r"/wide/0/[3-9]", link):  # one kind of neuron: a few are enough
                    waiting.append(link)
    assert {"/toy/1/3", "/toy/0/0?run=1", "/runs/6", "/docs", "/api/v1/models"} <= seen
    followed = {part for _, part in chosen}
    assert {"sort=max", "order=asc", "picture=density", "view=context"} <= followed


def test_the_ends_have_no_dead_links(client: TestClient) -> None:
    """The first neuron has no previous, the last no next; between, they cross layers."""

    def neighbours(path: str) -> dict[str, set[str]]:
        page = read(client, path)
        found: dict[str, set[str]] = {}
        for element in page.walk():
            if element.attributes.get("rel") in ("prev", "next"):
                found.setdefault(element.attributes["rel"], set()).add(element.attributes["href"])
        return found

    assert neighbours("/toy/0/0") == {"next": {"/toy/0/1"}}
    assert neighbours("/toy/0/3") == {"prev": {"/toy/0/2"}, "next": {"/toy/1/0"}}
    assert neighbours("/toy/1/3") == {"prev": {"/toy/1/2"}}
    assert neighbours("/toy/0") == {"next": {"/toy/1"}}
    assert neighbours("/toy/1") == {"prev": {"/toy/0"}}
    assert neighbours("/pre-only/0/0") == {}


def test_lists_are_paged_by_links(store_url: str) -> None:
    """Following "next page" shows every neuron once, in the order asked for."""
    engine = open_store(store_url, create=True)
    RunOf("wide", (wide_layer(230),)).write(engine)
    engine.dispose()
    path: str | None = "/wide/0?sort=max&order=asc"
    names: list[int] = []
    with serving(store_url) as client:
        api = "/api/v1/models/wide/layers/0/neurons?sort=max&order=asc&limit=1000"
        listed = [item["neuron"] for item in client.get(api).json()["items"]]
        while path:
            page = read(client, path)
            names += [int(link.text) for link in page.all("a", "name")]
            (pager,) = page.all("nav", "pager")
            links = {link.text: link.attributes["href"] for link in pager.all("a")}
            path = links.get("Next page")
    assert len(listed) == 230
    assert names == listed


# --- Nothing becomes markup ---------------------------------------------------------------------


def test_kinds_without_examples_say_so(client: TestClient) -> None:
    """A neuron without bottom, random and intermediate examples says that none were stored."""
    page = read(client, "/toy/1/3")
    for kind in ("bottom", "random", "bands"):
        here = section(page, kind)
        assert not here.all("li")
        name = "intermediate" if kind == "bands" else kind
        assert [note.text for note in here.all("p", "none")] == [f"No {name} examples were stored."]


def test_an_empty_store_says_what_to_do(store_url: str) -> None:
    """With nothing indexed the first page gives the command, and links to no random neuron."""
    open_store(store_url, create=True).dispose()
    with serving(store_url) as client:
        page = read(client, "/")
        assert "neurarium index demo" in [code.text for code in page.all("code")]
        assert not page.all("table")
        assert "/random" not in [link.attributes["href"] for link in page.all("a")]
        assert client.get("/demo").status_code == 404


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_the_server_s_words_are_no_model_names(name: str) -> None:
    """No model can be called by a word of the server's, however it is written."""
    for spelling in (name, name.upper()):
        with pytest.raises(NeurariumError, match="reserved"):
            check_name(spelling)


def test_a_model_named_by_force_does_not_hide_the_server_s_pages(store_url: str) -> None:
    """Even if a store holds a model called as a page of the server's, the page is served."""
    engine = open_store(store_url, create=True)
    for name in ("docs", "random", "runs", "api", "static", "healthz"):
        RunOf(name, (wide_layer(1),)).write(engine)
    engine.dispose()
    with serving(store_url) as client:
        assert "Routes" in client.get("/docs").text
        assert client.get("/random").status_code == 307
        assert client.get("/runs/1").status_code == 200
        assert client.get("/api/0/0").json()["status"] == 404
        assert client.get("/healthz").json()["runs"] == 6
        assert client.get("/static/base/theme.css").headers["content-type"].startswith("text/css")
