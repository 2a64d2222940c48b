"""Paths: every one that is built leads somewhere, redirects stay inside, words are reserved."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.web import api_urls, urls
from indexer.config import RESERVED_NAMES
from indexer.store.database import open_store
from tests.helpers import fixture_store
from tests.helpers.fixture_store import MODELS, RUNS


def test_every_path_leads_somewhere(client: TestClient) -> None:
    """All addresses that can be built for something that exists are answered."""
    for path in (
        urls.home(),
        urls.model("toy"),
        urls.model("Zebra_2.0", run=2),
        urls.layer("toy", 1, run=3, sort="max", order="asc"),
        urls.layer("toy", 1, picture="density", first=2),
        urls.search_numbers("toy", q="max>1 source:plain", run=1),
        urls.neuron("toy", 1, 3),
        urls.neurons("toy", run=4)(1, 0),
        "3".join(urls.neurons_of_layer("toy", 1, run=3)),
        urls.run(1),
        urls.docs(),
        urls.static("base/theme.css", "1"),
        api_urls.models(),
        api_urls.model("toy", run=1),
        api_urls.neurons("toy", 0, sort="kurtosis", order="desc"),
        api_urls.picture("toy", 0, "density", run=4, first=1),
        api_urls.search_numbers("toy", q="max>1", limit=2, run=3),
        api_urls.neuron("toy", 0, 0),
        api_urls.run(5),
    ):
        assert client.get(path).status_code == 200, path
    for path in (urls.random(), urls.random("toy"), urls.random("toy", 0), urls.random("toy", 1)):
        assert client.get(path).status_code == 307, path


@given(name=st.text(min_size=1), run=st.none() | st.integers(1))
def test_a_name_cannot_leave_its_segment(name: str, run: int | None) -> None:
    """Whatever a name holds, its path is two segments of plain characters on this server."""
    built = urls.layer(name, 0, run=run, cursor=name)
    assert re.fullmatch(r"/[A-Za-z0-9._~%-]+/0\?[A-Za-z0-9._~%+=&-]+", built)
    query = parse_qs(urlsplit(built).query, strict_parsing=True)
    assert query["cursor"] == [name]
    assert query.get("run") == (None if run is None else [str(run)])


def test_the_first_words_of_paths_are_reserved(client: TestClient) -> None:
    """No model can take a name that is a path of the server's own."""
    words = set()
    for path in routes_of(client):
        word = path.split("/")[1]
        if word and "{" not in word:
            words.add(word)
    assert {"api", "docs", "random", "runs", "static", "healthz"} <= words
    assert words <= RESERVED_NAMES


def routes_of(client: TestClient) -> set[str]:
    """The paths of all routes and mounts."""
    paths: set[str] = set()

    def gather(routes: object, prefix: str = "") -> None:
        for route in routes:  # type: ignore[attr-defined]
            path = getattr(route, "path", "")
            if path:
                paths.add(prefix + path)
            # FastAPI keeps an included router as one route, its own routes inside.
            inner = getattr(route, "original_router", None)
            if inner is not None:
                gather(inner.routes, prefix)

    gather(client.app.routes)  # type: ignore[attr-defined]
    return paths


def test_random_redirects_stay_inside(any_client: TestClient) -> None:
    """A random neuron's address is on this server, exists, and is not kept."""
    for start, model, layer in (
        ("/random", None, None),
        ("/toy/random", "toy", None),
        ("/toy/1/random", "toy", 1),
        ("/Zebra_2.0/1/random", "Zebra_2.0", 1),
    ):
        for _ in range(5):
            response = any_client.get(start)
            assert response.status_code == 307
            assert response.headers["cache-control"] == "no-store"
            found = re.fullmatch(r"/([A-Za-z0-9._-]+)/(\d+)/\d+", response.headers["location"])
            assert found
            assert found[1] == model if model else found[1] in MODELS
            assert layer is None or int(found[2]) == layer
            assert any_client.get(response.headers["location"]).status_code == 200


def test_random_keeps_to_the_run_named(client: TestClient) -> None:
    """?run= goes on in the address, and only that run's neurons are drawn."""
    for _ in range(5):
        location = client.get(f"/toy/random?run={fixture_store.TOY_PRE}").headers["location"]
        assert re.fullmatch(r"/toy/(0/[01]|1/0)\?run=4", location)
    assert client.get("/toy/random?run=2").status_code == 404
    assert client.get("/toy/2/random").status_code == 404
    assert client.get("/nobody/random").status_code == 404


def test_random_of_nothing_is_not_found(store_url: str) -> None:
    """In an empty store there is no random neuron, and the page says what to do."""
    open_store(store_url, create=True).dispose()
    with TestClient(create_app(Settings(database_url=store_url))) as client:
        response = client.get("/random")
    assert response.status_code == 404
    assert "index a model first" in response.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/toy/0/3.html", "/toy/0/3"),
        ("/toy/1/2.html?run=4", "/toy/1/2?run=4"),
        ("/Zebra_2.0/1/0.html", "/Zebra_2.0/1/0"),
    ],
)
def test_neuroscope_s_addresses_redirect(client: TestClient, old: str, new: str) -> None:
    """/{model}/{layer}/{neuron}.html goes on to the neuron, for good."""
    response = client.get(old)
    assert response.status_code == 308
    assert response.headers["location"] == new


def test_a_slash_too_many_redirects_inside(client: TestClient) -> None:
    """An address with a slash at its end goes on to the one without."""
    for path in ("/toy/", "/toy/0/", "/toy/0/0/", "/docs/"):
        response = client.get(path)
        assert response.status_code in (307, 308)
        assert urlsplit(response.headers["location"]).path == path.rstrip("/")
        assert urlsplit(response.headers["location"]).netloc in ("", "testserver")


def test_runs_of_the_fixture_are_reachable_by_their_names(client: TestClient) -> None:
    """Every run's pages are at its model's name with ?run=."""
    for number, run in enumerate(RUNS, 1):
        page = client.get(urls.model(run.model, run=number))
        assert page.status_code == 200
        assert f"Run {number}</a>" in page.text
