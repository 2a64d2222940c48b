"""Pages that were built before: the same as newly built ones, for every visitor and encoding, until
something that they depend on changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from fastapi import Request, Response
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.neurons import queries
from app.web.built import BuiltPages, takes_zstd
from indexer.store.database import open_store
from indexer.store.runs import delete_run
from tests.conftest import serving
from tests.helpers.fixture_store import CONSTANT, DEAD, TIED, RunOf

TOY = RunOf("toy", ((CONSTANT, DEAD), (TIED,)))
PAGE = "/toy/0/0"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A store with one run."""
    engine = open_store(f"sqlite:///{tmp_path / 'store.db'}", create=True)
    TOY.write(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The neurons whose pages were built."""
    neurons: list[int] = []
    original = queries.neuron

    def counted(reading: Any, layer: int, neuron: int, *rest: Any) -> Any:
        neurons.append(neuron)
        return original(reading, layer, neuron, *rest)

    monkeypatch.setattr(queries, "neuron", counted)
    return neurons


@pytest.fixture
def client(engine: Engine, built: list[int]) -> Iterator[TestClient]:
    """A client of a server over the store."""
    with serving(str(engine.url)) as client:
        yield client


def asked(client: TestClient, encoding: str = "zstd", **headers: str) -> Any:
    """The answer for a visitor who takes one encoding."""
    return client.get(PAGE, headers={"Accept-Encoding": encoding, **headers})


def text(answer: Any) -> str:
    """The text of an answer; the client does not decompress zstd by itself."""
    content: bytes = answer.content
    if answer.headers.get("content-encoding") == "zstd":
        content = zstandard.ZstdDecompressor().decompress(content)
    return content.decode()


def test_a_page_is_built_once_for_all_encodings(client: TestClient, built: list[int]) -> None:
    """The text, the tag and the policy are those of the first answer."""
    first = asked(client)
    for encoding in ("zstd", "gzip", "br", "identity", "gzip, zstd;q=0"):
        again = asked(client, encoding)
        assert text(again) == text(first)
        assert again.headers["vary"] == "Accept-Encoding"
        for name in ("etag", "cache-control", "content-type", "content-security-policy"):
            assert again.headers[name] == first.headers[name]
        sent = again.headers.get("content-encoding", "identity")
        assert sent == ("gzip" if ";" in encoding else encoding)
    assert built == [0]


def test_a_tag_is_answered_as_before(client: TestClient) -> None:
    """A visitor who has the page, or any version of it, gets no page."""
    tag = asked(client).headers["etag"]
    for known in (tag, "*", f'"other", {tag}'):
        assert asked(client, **{"If-None-Match": known}).status_code == 304
    assert asked(client, **{"If-None-Match": '"other"'}).status_code == 200


def test_what_a_page_depends_on_makes_it_anew(
    client: TestClient, engine: Engine, built: list[int]
) -> None:
    """Another view, another name of the server, a further run, and the run's deletion."""
    first = asked(client)
    assert text(asked(client, Cookie="neurarium-view=context")) != text(first)
    assert text(asked(client, Host="b.test")) != text(first)
    assert len(built) == 3
    second = TOY.write(engine)
    assert "?run=" in text(asked(client))
    delete_run(engine, second)
    assert text(asked(client)) == text(first)
    assert len(built) == 4  # the first is still right


def test_a_run_that_appears_while_a_page_is_built(
    client: TestClient, engine: Engine, built: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its page is not kept: it may name a run that its tag does not know."""
    counted = queries.neuron
    added: list[int] = []

    def slow(*arguments: Any) -> Any:
        page = counted(*arguments)
        if not added:
            added.append(TOY.write(engine))
        return page

    monkeypatch.setattr(queries, "neuron", slow)
    asked(client)
    delete_run(engine, added[0])
    asked(client)
    assert len(built) == 2
    asked(client)
    assert len(built) == 2


def request(encoding: str) -> Request:
    """A request that takes an encoding."""
    headers = [(b"accept-encoding", encoding.encode())]
    return Request({"type": "http", "headers": headers})


def test_memory_is_bounded() -> None:
    """The page asked for longest ago goes first; one that is too large is not kept."""
    pages, zstd = BuiltPages(1_400), request("zstd")
    for tag in "abc":
        pages.keep(zstd, tag, Response(tag * 1_000))
        pages.get(zstd, "a")
    assert pages.get(zstd, "a") is not None
    assert pages.get(zstd, "b") is None
    assert pages.get(zstd, "c") is not None
    large = Response("x" * 3_000)
    assert pages.keep(zstd, "d", large) is large
    assert pages.get(zstd, "d") is None
    assert BuiltPages(0).keep(zstd, "a", large) is large


def test_pages_that_are_refused_are_not_kept() -> None:
    """Only answers with status 200."""
    pages = BuiltPages(2_000)
    pages.keep(request("zstd"), "a", Response("wrong", 422))
    assert pages.get(request("zstd"), "a") is None


@pytest.mark.parametrize(
    ("encoding", "taken"),
    [
        ("zstd", True),
        ("gzip, deflate, br, zstd", True),
        ("ZSTD;q=0.5", True),
        ("zstd;q=0", False),
        ("zstd; q=0.0", False),
        ("gzip", False),
        ("", False),
        ("xzstd", False),
    ],
)
def test_who_takes_zstd(encoding: str, taken: bool) -> None:
    """As the header says, whatever else it names."""
    assert takes_zstd(request(encoding)) == taken
