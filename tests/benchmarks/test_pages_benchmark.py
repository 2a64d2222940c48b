"""The benchmark of pages asks for addresses that exist, and reads whole answers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

from benchmarks.pages import addresses, browser, load, serving
from benchmarks.pages.asking import ask_all
from benchmarks.rounds import Turn
from benchmarks.tables import LISTINGS, SEARCHES
from indexer.errors import NeurariumError
from tests.conftest import serving_live
from tests.helpers.fixture_store import RUNS


def test_every_neuron_is_drawn_once(client: TestClient) -> None:
    """The addresses are all neurons of all runs, none twice; another seed has another order."""
    places = addresses.draw(lambda path: client.get(path).json(), 1000, 0)
    expected = {
        (run.model, layer, neuron)
        for run in RUNS
        for layer, neurons in enumerate(run.layers)
        for neuron in range(len(neurons))
    }
    assert set(places) == expected
    assert len(places) == len(expected)
    assert addresses.draw(lambda path: client.get(path).json(), 1000, 1) != places
    assert len(addresses.draw(lambda path: client.get(path).json(), 3, 0)) == 3


def test_every_search_is_answered(client: TestClient) -> None:
    """Each kind has an address a neuron; the same seed gives the same; words are found."""

    def get(path: str) -> object:
        return client.get(path).json()

    places = addresses.draw(get, 6, 0)
    paths = addresses.searches(get, places, 0)
    assert tuple(paths) == (*SEARCHES, *LISTINGS)
    assert addresses.searches(get, places, 0) == paths
    for name, own in paths.items():
        assert len(own) == len(places)
        for path in own:
            answer = client.get(path)
            assert answer.status_code == 200, path
            if name in ("two words", "phrase", "word prefix"):
                assert "/contexts/" in answer.text, path


@pytest.fixture
def server() -> Iterator[str]:
    """Sends what an address says, and counts the connections."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(int(self.headers["Status"]))
            if self.path == "/length":
                self.send_header("Content-Length", "200000")
                self.send_header("ETag", '"a"')
                self.end_headers()
                self.wfile.write(b"x" * 200_000)
            elif self.path == "/chunked":
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"3\r\nabc\r\n")
                self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()
    running.server_close()


def test_answers_are_read_whole(server: str) -> None:
    """With a length, in chunks, without a body: one after the other on a connection."""
    length, chunked = ask_all(server, ["/length", "/chunked"], {"Status": "200"})
    assert (len(length.body), length.tag, chunked.body) == (
        200_000,
        '"a"',
        b"3\r\nabc\r\n0\r\n\r\n",
    )
    assert [one.body for one in ask_all(server, ["/none"] * 2, {"Status": "304"})] == [b"", b""]
    with pytest.raises(NeurariumError, match="/length was answered with 500"):
        ask_all(server, ["/length"], {"Status": "500"})
    with pytest.raises(NeurariumError, match="does not answer"):
        ask_all("http://127.0.0.1:9", ["/"], {})


def test_a_turn_asks_for_the_next_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last address comes the first."""
    asked: list[str] = []

    def fake(address: str, paths: list[str], headers: object) -> list[SimpleNamespace]:
        asked.extend(paths)
        return [SimpleNamespace(milliseconds=float(path)) for path in paths]

    monkeypatch.setattr(serving, "ask_all", fake)
    ask = serving.Case("", ["1", "2", "3"], {}).ask(2)
    assert [ask(number) for number in range(3)] == [[1.0, 2.0], [3.0, 1.0], [2.0, 3.0]]


def test_visitors_ask_at_once(sqlite_filled: str) -> None:
    """Each gets whole pages until the end; a page that fails is told."""
    with serving_live(sqlite_filled) as address:
        pages = serving.neuron_pages(address, 5, 0)
        assert len(load.ask(address, pages, 4, 0.2)) >= 4
        with pytest.raises(NeurariumError, match="404"):
            load.ask(address, ["/nobody"], 2, 0.2)


def test_chromium_is_reached_whatever_else_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors of two digits too; one that has ended is told in a line."""
    monkeypatch.setattr(browser, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(browser, "_LOAD_SECONDS", 0.1)
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(open(os.devnull))
        chromium = stack.enter_context(browser.chromium())
        paint, shift = chromium.load("data:text/html,<p>A line of text.", 390)
        assert paint > 0 == shift
    ended, commands = os.pipe()
    os.close(ended)
    with pytest.raises(NeurariumError, match="Chromium ended"):
        browser.Browser(commands, 0).load("about:blank", 390)
    os.close(commands)


def test_rounds_are_put_together() -> None:
    """The median of the rounds' medians, and of what 95% of their answers took at most."""
    rounds = [[1.0, 2.0, 9.0], [4.0] * 3, [3.0] * 40 + [80.0]]
    turns = [Turn(("demo", "page"), n, n, 0.0, 0.0, times) for n, times in enumerate(rounds)]
    median, slow = serving.figures(turns, [("demo", "page")])
    assert (median.row, median.column, median.value) == ("page", "demo", 3.0)
    assert (slow.row, slow.value) == ("page, 95% of answers", 4.0)
