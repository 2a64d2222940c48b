"""Attacks on `neurarium serve`, smaller than those of `benchmarks.pages.attacks`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.pages import servers
from benchmarks.pages.asking import ask_all
from benchmarks.pages.attacking import NO_ANSWER, attacked, post
from benchmarks.pages.serving import neuron_pages


@pytest.fixture(scope="module")
def address(sqlite_filled: str) -> Iterator[str]:
    """The address of a server that may have few files open."""
    with servers.neurarium(sqlite_filled, files=256) as server:
        yield server.address


@pytest.mark.parametrize(
    ("name", "count"), [("half-open", 400), ("idle", 400), ("large head", 20_000_000)]
)
def test_pages_are_served_meanwhile(address: str, name: str, count: int) -> None:
    """Each on a connection of its own, and the next attack finds the server as before."""
    pages = neuron_pages(address, 20, 0)
    with attacked(name, address, count):
        for page in pages:
            assert ask_all(address, [page], {})[0].status == 200


def test_texts_are_counted_by_status(address: str) -> None:
    """Of a server that has no models, and of none."""
    assert post(f"{address}/toy/0/0/try") == "404"
    assert post("http://127.0.0.1:9/toy/0/0/try") == NO_ANSWER
