"""Routes and their parameters are documented once, and the docs name no other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

import neurarium
from app.main import create_app
from app.settings import Settings
from indexer.store.database import open_store
from tests.conftest import serving
from tests.project.pages import (
    CODE,
    DOCS,
    FENCE,
    PAGES,
    ROOT,
    check_none,
    check_once,
    prose,
    spans,
    table_rows,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """A server over an empty store."""
    database = f"sqlite:///{tmp_path_factory.mktemp('docs') / 'empty.db'}"
    open_store(database, create=True).dispose()
    return create_app(Settings(database_url=database))


@pytest.fixture(scope="module")
def routes(server: FastAPI) -> set[str]:
    """The path of every route that leads to something, except static files."""
    leading = paths(server.routes) - {"/api", "/api/{rest}"}  # which answer 404
    return {path for path in leading if not path.startswith("/static/")}


def paths(routes: Sequence[BaseRoute]) -> set[str]:
    """The path of each route that answers a method, as a reader would write it."""
    return {
        re.sub(r":\w+}", "}", context.path)
        for context in iter_route_contexts(routes)
        if context.path and context.methods
    }


def paths_in_code() -> set[str]:
    """What looks like one of the server's paths, without its query, in a piece of code."""
    words = {word.split("?")[0] for piece in CODE for word in re.split(r"[\s'\"(),]+", piece)}
    words |= {re.sub(r"^https?://[^/]+", "", word) for word in words}
    return {word for word in words if word.startswith("/")}


def addresses(row: list[str]) -> list[str]:
    """The addresses that a line of a table documents: all its cells but the last say where."""
    return [span for cell in row[:-1] for span in spans(cell) if span.startswith("/")]


def test_every_route_is_documented_once(routes: set[str]) -> None:
    """Each route, page or JSON, is documented in one line of the API's page."""
    assert {"/", "/healthz", "/{model}/{layer}/{neuron}"} <= routes
    lines = table_rows(PAGES[DOCS / "api.md"])
    in_sets = {path for path in routes if "{set}" in path}  # one rule documents them all
    default = {path.replace("/sets/{set}", "").replace("/{set}", "") for path in in_sets}
    heads = {path for path in routes if "{model}/heads" in path}  # a set that has its own pages
    assert default == {path for path in routes - in_sets - heads if "{model}" in path}
    named = Counter(path for row in lines for path in addresses(row))
    check_once(named, routes - in_sets, "routes")


@cache
def shape(route: str) -> re.Pattern[str]:
    """What matches a route's paths."""
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(route)))


def test_every_route_named_exists(routes: set[str]) -> None:
    """A path that has a placeholder, or lies under /api/ or in the demo, is a route's."""
    named = paths_in_code()
    beginnings = {path for path in named if path.endswith("/…")}  # of many paths
    wrong = {path for path in named - beginnings if "{" in path} - routes
    api, pages = (
        [shape(route) for route in routes if route.startswith("/api/") is is_api]
        for is_api in (True, False)
    )
    for start, shapes in (("/api/", api), ("/demo", pages), ("/smollm2", pages)):
        concrete = {path for path in named if path.startswith(start) and "{" not in path}
        wrong |= {path for path in concrete if not any(one.fullmatch(path) for one in shapes)}
    check_none(wrong, "paths that no route has")


def test_every_parameter_is_documented(server: FastAPI) -> None:
    """The line of each JSON address has the parameters that only it takes; `run`, `limit`,
    `cursor` and `fields`, which many take, are explained once."""
    text = PAGES[DOCS / "api.md"]
    lines = {path: row[-1] for row in table_rows(text) for path in addresses(row)}
    shared = {"run", "limit", "cursor", "fields"}
    for path, operations in server.openapi()["paths"].items():
        for parameter in (p for of in operations.values() for p in of.get("parameters", [])):
            name = parameter["name"]
            if parameter["in"] == "query" and name not in shared:
                line = lines[path.replace("/sets/{set}", "")]
                assert re.search(rf"[?&]{name}=", line), f"{path}: {name}= is not documented"
    for name in shared:
        assert f"`?{name}=`" in prose(text)


def test_the_example_of_the_api_runs(
    sqlite_filled: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The README's programs give what they say, here of the tests' own store."""
    blocks = FENCE.findall(PAGES[ROOT / "README.md"])
    program, reading = [block for language, block in blocks if language == "python"]
    monkeypatch.setattr(neurarium, "open", partial(neurarium.open, sqlite_filled))
    known: dict[str, Any] = {}
    exec(reading.replace('"demo"', '"toy"'), known)
    with serving(sqlite_filled) as client:
        listed = client.get("/api/v1/models/toy/layers/1/neurons").json()["items"]
        assert known["frame"]["max"].tolist() == [row["max"] for row in listed]
        monkeypatch.setattr(httpx, "get", client.get)
        exec(program.replace("demo/layers/1/neurons/349", "toy/layers/0/neurons/0"), {})
        stored = client.get("/api/v1/models/toy/layers/0/neurons/0").json()
    first, *examples = capsys.readouterr().out.splitlines()
    assert float(first.split()[0]) == stored["stats"]["max"]
    assert [float(line.split()[0]) for line in examples] == [
        example["peak"] for example in stored["examples"]["top"][:3]
    ]
