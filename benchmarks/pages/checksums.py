"""What the checksums of rows cost a page: pages with and without them, in turn in one process.

    python -m benchmarks.pages.checksums demo=sqlite:////tmp/demo.db

There is no network: the app is called as a server calls it. Times are the processor's, which other
work on the machine hardly changes. The share is that of the medians, of the same pages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Annotated, Any

import typer
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.web import api_urls, urls
from benchmarks.pages import servers
from benchmarks.pages.addresses import draw
from benchmarks.results import Figure, Save, run
from benchmarks.tables import report
from indexer.errors import NeurariumError
from indexer.store.checksums import Cover, Rows

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


async def ask(app: App, address: str) -> bytes:
    """The body of an answer. Raises NeurariumError unless it is 200."""
    path, _, query = address.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"accept-encoding", b"zstd")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }
    status, parts = 0, []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        parts.append(message.get("body", b""))

    await app(scope, receive, send)
    if status != 200:
        raise NeurariumError(f"{address} was answered with {status}.")
    return b"".join(parts)


@contextmanager
def unchecked() -> Iterator[None]:
    """While rows are not compared with their checksums."""

    def believe(_: Cover, rows: Rows) -> Rows:
        return rows

    check = Cover.check
    Cover.check = believe  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Cover.check = check  # type: ignore[method-assign]


async def timed(app: App, paths: Sequence[str], rounds: int) -> tuple[list[float], list[float]]:
    """The processor's milliseconds for each answer with checksums and without, in turn: which of
    both comes first changes from page to page."""
    with_them: list[float] = []
    without: list[float] = []

    async def once(path: str, times: list[float]) -> bytes:
        began = time.process_time()
        body = await ask(app, path)
        times.append(1000 * (time.process_time() - began))
        return body

    for number in range(rounds * len(paths)):
        path = paths[number % len(paths)]
        bodies = []
        for checked in (number % 2 == 0, number % 2 == 1):
            if checked:
                bodies.append(await once(path, with_them))
            else:
                with unchecked():
                    bodies.append(await once(path, without))
        if bodies[0] != bodies[1]:
            raise NeurariumError(f"{path} differs without checksums.")
    return with_them, without


def measure(name: str, database: str, pages: int, rounds: int, seed: int) -> list[Figure]:
    """Of neuron pages and of their JSON: milliseconds with and without checksums, and what they
    add."""
    settings = Settings(database_url=database, page_memory=0)
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        places = draw(lambda path: client.get(path).json(), pages, seed)
    app = create_app(settings)
    figures = []

    async def all_of() -> None:
        async with app.router.lifespan_context(app):
            for kind, address in (("page", urls.neuron), ("JSON", api_urls.neuron)):
                paths = [address(*place) for place in places]
                await timed(app, paths[:20], 1)
                checked, without = await timed(app, paths, rounds)
                added = 100 * (median(checked) / median(without) - 1)
                figures.append(Figure.of(f"{kind}, with checksums", name, checked, "ms"))
                figures.append(Figure.of(f"{kind}, without", name, without, "ms"))
                figures.append(Figure(f"{kind}, added by checksums", name, added, "%"))

    asyncio.run(all_of())
    return figures


def main(
    stores: Annotated[list[str], typer.Argument(help="NAME=DATABASE.")],
    pages: Annotated[int, typer.Option(min=20, help="How many neurons.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is asked for.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the choice of neurons.")] = 0,
    save: Save = None,
) -> None:
    """Measure what checksums cost a page."""
    figures = []
    for name, database in servers.named(stores).items():
        figures += measure(name, database, pages, rounds, seed)
    report("pages.checksums", {"pages": pages, "rounds": rounds, "seed": seed}, figures, save)


if __name__ == "__main__":
    run(main)
