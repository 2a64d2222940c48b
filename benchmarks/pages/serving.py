"""How fast pages are served: answers on one kept connection, bytes, and first paints in Chromium.

    python -m benchmarks.pages.serving demo=sqlite:////tmp/demo.db large=sqlite:////tmp/large.db
    python -m benchmarks.pages.serving before=http://127.0.0.1:8001 after=http://127.0.0.1:8002

Each argument names a database, which `neurarium serve` is started on, or a server that is running.
All are measured in the same rounds, so two versions of the server can be compared. Progress goes to
stderr. A first look, in half a minute: `--rounds 2 --requests 20 --loads 2`; a load in Chromium
takes 1.5 seconds, most of it quiet.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import typer

from app.web import api_urls, urls
from benchmarks.pages import addresses, servers
from benchmarks.pages.asking import ask_all
from benchmarks.pages.browser import chromium
from benchmarks.results import Figure, Save, run
from benchmarks.rounds import Turn, announced, interleave
from benchmarks.tables import PAGE_ROWS, report
from indexer.errors import NeurariumError

PAGE, FLOOR, UNCHANGED, JSON = PAGE_ROWS
ENCODINGS = {"zstd": "zstd", "br": "brotli", "gzip": "gzip", "identity": "uncompressed"}
_SIZES = 100
"""Pages whose sizes are looked at."""
_ZSTD = {"Accept-Encoding": "zstd"}


@dataclass(frozen=True)
class Case:
    """Addresses of one kind at one server."""

    address: str
    """Of the server."""
    paths: Sequence[str]
    headers: Mapping[str, str]

    def ask(self, requests: int) -> Callable[[int], list[float]]:
        """A function of the round that asks for the next so many addresses, from the first again
        after the last, and returns the milliseconds of each answer."""

        def ask(number: int) -> list[float]:
            first = number * requests % len(self.paths)
            paths = list(islice(cycle(self.paths), first, first + requests))
            return [one.milliseconds for one in ask_all(self.address, paths, self.headers)]

        return ask


def measure(stores: Mapping[str, str], rounds: int, requests: int, seed: int) -> list[Figure]:
    """Times and sizes of every server's answers. `stores` are databases or http:// addresses by
    name. Raises NeurariumError if a server fails."""
    cases: dict[tuple[str, str], Case] = {}
    sizes: list[Figure] = []
    with ExitStack() as stack:
        for store, url in stores.items():
            address = servers.served(stack, url)
            typer.echo(f"{store}: choosing addresses", err=True)
            for name, case in _cases(stack, address, rounds * requests, seed).items():
                cases[store, name] = case
            sizes += _sizes(store, cases[store, PAGE])
        asked = {key: case.ask(requests) for key, case in cases.items()}
        played = interleave(asked, range(rounds), seed)
        turns = list(announced(played, rounds * len(asked), f"turns of {requests} requests"))
    return [*figures(turns, list(asked)), *sizes]


def figures(
    turns: Sequence[Turn[tuple[str, str], int]], keys: Sequence[tuple[str, str]]
) -> list[Figure]:
    """For each server and case: the median over rounds of the median answer, and of the time that
    95% of the round's answers took at most."""
    measured = []
    for store, name in keys:
        rounds = [turn.result for turn in turns if turn.key == (store, name)]
        medians = [statistics.median(times) for times in rounds]
        slow = [sorted(times)[ceil(0.95 * len(times)) - 1] for times in rounds]
        measured.append(Figure.of(name, store, medians, "ms"))
        measured.append(Figure.of(f"{name}, 95% of answers", store, slow, "ms"))
    return measured


def _cases(stack: ExitStack, address: str, count: int, seed: int) -> dict[str, Case]:
    places = neuron_places(address, count, seed)
    pages = [urls.neuron(*place) for place in places]
    page = ask_all(address, pages[:1], _ZSTD)[0]
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    (folder / "page").write_bytes(page.body)
    floor = stack.enter_context(servers.plain(folder))
    # Of each page its JSON is asked for: of no more pages than there are requests.
    searched = addresses.searches(_json(address), places[: addresses.SEARCHED], seed)
    return {
        PAGE: Case(address, pages, _ZSTD),
        FLOOR: Case(floor, ["/page"], _ZSTD),
        UNCHANGED: Case(address, pages[:1], {**_ZSTD, "If-None-Match": page.tag}),
        JSON: Case(address, [api_urls.neuron(*place) for place in places], _ZSTD),
    } | {name: Case(address, paths, _ZSTD) for name, paths in searched.items()}


def _json(address: str) -> addresses.Get:
    def get(path: str) -> Any:
        return json.loads(ask_all(address, [path], {"Accept-Encoding": "identity"})[0].body)

    return get


def neuron_places(address: str, count: int, seed: int) -> list[addresses.Place]:
    """So many neurons of a server, in random order. Raises NeurariumError if it has none."""
    places = addresses.draw(_json(address), count, seed)
    if not places:
        raise NeurariumError(f"There is no run at {address}: index a model first.")
    return places


def neuron_pages(address: str, count: int, seed: int) -> list[str]:
    """The paths of so many neuron pages of a server, in random order. Raises NeurariumError if it
    has none."""
    return [urls.neuron(*place) for place in neuron_places(address, count, seed)]


def _sizes(store: str, pages: Case) -> list[Figure]:
    """Bytes of pages as sent: the median by encoding, and the largest."""
    measured = []
    for encoding, name in ENCODINGS.items():
        headers = {"Accept-Encoding": encoding}
        answers = ask_all(pages.address, pages.paths[:_SIZES], headers)
        sizes = [len(answer.body) / 1000 for answer in answers]
        measured.append(Figure(f"page's size, {name}", store, statistics.median(sizes), "kB"))
        measured.append(Figure(f"largest page, {name}", store, max(sizes), "kB"))
    return measured


def paint(stores: Mapping[str, str], loads: int, seed: int) -> list[Figure]:
    """First contentful paint of every server's pages, beside that of a page with one line of text;
    the largest layout shift of all loads."""
    widths = (1280, 390)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "line").write_text("<!doctype html><title>Line</title><p>A line of text.")
        line = f"{stack.enter_context(servers.plain(folder))}/line"
        pages: dict[str | None, list[str]] = {None: [line]}
        for store, url in stores.items():
            address = servers.served(stack, url)
            pages[store] = [address + path for path in neuron_pages(address, loads, seed)]
        browser = stack.enter_context(chromium())

        def load(store: str | None, width: int) -> Callable[[int], tuple[float, float]]:
            return lambda number: browser.load(pages[store][number % len(pages[store])], width)

        shown = {(store, width): load(store, width) for store in pages for width in widths}
        browser.load(line, 1280)  # the browser itself warms up
        played = interleave(shown, range(loads), seed)
        turns = list(announced(played, loads * len(shown), "loads in Chromium"))
    measured = []
    for store in stores:
        for kind, of in (("first paint", store), ("a line of text", None)):
            for width in widths:
                paints = [turn.result[0] for turn in turns if turn.key == (of, width)]
                measured.append(Figure.of(f"{kind}, {width} px", store, paints, "ms"))
        shifts = [turn.result[1] for turn in turns if turn.key[0] in (store, None)]
        measured.append(Figure("layout shift", store, max(shifts)))
    return measured


def main(
    stores: Annotated[list[str], typer.Argument(help="NAME=DATABASE or NAME=http://HOST:PORT.")],
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each kind of address.")] = 7,
    requests: Annotated[int, typer.Option(min=1, help="Requests in a turn.")] = 200,
    loads: Annotated[int, typer.Option(min=0, help="Loads in Chromium of each page.")] = 15,
    seed: Annotated[int, typer.Option(help="Of the choice and order of addresses.")] = 0,
    save: Save = None,
) -> None:
    """Measure how fast pages are served."""
    named = servers.named(stores)
    measured = measure(named, rounds, requests, seed)
    if loads:
        measured += paint(named, loads, seed)
    parameters = {"rounds": rounds, "requests": requests, "loads": loads, "seed": seed}
    report("pages.serving", parameters, measured, save)


if __name__ == "__main__":
    run(main)
