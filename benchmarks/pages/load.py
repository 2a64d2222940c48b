"""How many neuron pages a second are served to many visitors at once, and how long they wait.

    python -m benchmarks.pages.load one=sqlite:////tmp/demo.db two=sqlite:////tmp/demo.db@2
    python -m benchmarks.pages.load before=http://127.0.0.1:8001 after=http://127.0.0.1:8002

`@2` starts the server with two workers. With `--kept`, all pages were built before and are kept in
memory; otherwise the servers keep none. Each visitor asks for one page after the other on a
connection of its own. The visitors share the machine with the server.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from typing import Annotated
from urllib.parse import urlsplit

import typer

from benchmarks.pages import servers
from benchmarks.pages.asking import ask_all
from benchmarks.pages.serving import neuron_pages
from benchmarks.results import Figure, Save, run
from benchmarks.rounds import announced, interleave
from benchmarks.tables import report
from indexer.errors import NeurariumError

CONNECTIONS = (1, 16, 128)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Visitor(asyncio.Protocol):
    """Asks for one path after the other until `end`, and notes the milliseconds of each answer."""

    def __init__(self, host: str, paths: Iterator[str], end: float) -> None:
        self.times: list[float] = []
        self.done = asyncio.get_running_loop().create_future()
        self._host, self._paths, self._end = host, paths, end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._whole():
            return
        if not self._data.startswith(b"HTTP/1.1 200"):
            self._stop(NeurariumError(f"A page was answered with {bytes(self._data[9:12])!r}."))
            return
        now = time.perf_counter()
        self.times.append(1000 * (now - self._began))
        if now < self._end:
            self._ask()
        else:
            self._stop(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop(NeurariumError("The server closed a connection."))

    def _stop(self, error: NeurariumError | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
        self._transport.close()

    def _ask(self) -> None:
        self._data = bytearray()
        self._began = time.perf_counter()
        head = f"GET {next(self._paths)} HTTP/1.1\r\nHost: {self._host}\r\nAccept-Encoding: zstd"
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(f"{head}\r\n\r\n".encode())

    def _whole(self) -> bool:
        head = self._data.find(b"\r\n\r\n")
        if head < 0:
            return False
        if length := _LENGTH.search(self._data, 0, head):
            return len(self._data) >= head + 4 + int(length[1])
        return self._data.endswith(b"0\r\n\r\n")


def ask(address: str, paths: Sequence[str], connections: int, seconds: float) -> list[float]:
    """The milliseconds of all answers to so many visitors at once. Raises NeurariumError if any
    page fails."""
    host = urlsplit(address)

    async def visit() -> list[float]:
        loop, asked = asyncio.get_running_loop(), cycle(paths)
        end = time.perf_counter() + seconds
        visitors = []
        for _ in range(connections):
            made = await loop.create_connection(
                lambda: Visitor(host.netloc, asked, end), str(host.hostname), host.port or 80
            )
            visitors.append(made[1])
        done = await asyncio.gather(*(one.done for one in visitors), return_exceptions=True)
        if failures := [one for one in done if one is not None]:
            raise failures[0]
        return [milliseconds for visitor in visitors for milliseconds in visitor.times]

    return asyncio.run(visit())


def _turn(
    address: str, paths: Sequence[str], connections: int, seconds: float, _: int
) -> list[float]:
    """`ask` in a round of `interleave`."""
    return ask(address, paths, connections, seconds)


def measure(
    stores: dict[str, str], rounds: int, seconds: float, seed: int, kept: bool
) -> list[Figure]:
    """Pages a second, and the milliseconds of the median and of 99% of pages, by server and number
    of connections; `kept`: of pages that were built before."""
    with ExitStack() as stack:
        turns = {}
        for store, url in stores.items():
            database, _, workers = url.partition("@")
            options = ("--workers", workers) if workers else ()
            address = servers.served(stack, database, *options, keeps=kept)
            paths = neuron_pages(address, 1000, seed)
            for _ in range(4):  # each process warms up
                ask_all(address, paths if kept else paths[:10], {"Accept-Encoding": "zstd"})
            for connections in CONNECTIONS:
                turns[store, connections] = partial(_turn, address, paths, connections, seconds)
        played = interleave(turns, range(rounds), seed)
        done = list(announced(played, rounds * len(turns), f"turns of {seconds:g} s"))
    figures = []
    for (store, connections), _ in turns.items():
        results = [sorted(t.result) for t in done if t.key == (store, connections)]
        rates = [len(times) / seconds for times in results]
        name = f"{connections} connection{'s' if connections > 1 else ''}"
        figures.append(Figure.of(f"{name}, pages a second", store, rates))
        for share, of in ((0.5, "median"), (0.99, "99% of pages")):
            at = [times[int(share * (len(times) - 1))] for times in results]
            figures.append(Figure.of(f"{name}, {of}", store, at, "ms"))
    return figures


def main(
    stores: Annotated[list[str], typer.Argument(help="NAME=DATABASE[@WORKERS] or NAME=http://…")],
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each number of connections.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of a turn.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the choice and order of pages.")] = 0,
    kept: Annotated[bool, typer.Option(help="Ask for pages that were built before.")] = False,
    save: Save = None,
) -> None:
    """Measure pages under load."""
    figures = measure(servers.named(stores), rounds, seconds, seed, kept)
    parameters = {"rounds": rounds, "seconds": seconds, "seed": seed, "kept": kept}
    report("pages.load", parameters, figures, save)


if __name__ == "__main__":
    run(main)
