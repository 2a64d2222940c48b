"""How fast pages are served: real servers, wrk, a browser. `benchmarks/README.md` has the figures.

python -m benchmarks.pages.serving --demo sqlite:////tmp/demo.db --large sqlite:////tmp/large.db
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from app.web import urls
from benchmarks.pages import searches, servers
from benchmarks.pages.browser import chromium
from benchmarks.pages.load import Case, Measured, find_wrk, interleaved
from benchmarks.pages.paint import Painted, painted
from indexer.errors import NeurariumError
from indexer.store import schema
from indexer.store.database import open_store

ENCODINGS = ("zstd", "br", "gzip", "identity")
SAMPLE = 100
"""Pages whose sizes are looked at."""

LINE = "one line of text"
"""A page with nothing to lay out: the least that a first paint takes here."""
PAGE = "page"
AGAIN = "next in the same tab"
FILE = "page's bytes, static file"
ROUTE = "page's bytes, trivial route"
UNCHANGED = "page, unchanged (304)"
JSON = "JSON"

PAGE_MS, UNCHANGED_MS, PAGE_KB, LARGER, PAINT_MS = 10.0, 1.5, 40.0, 1.2, 150.0
"""The targets: medians, and the largest ratio of a page's times on the two databases."""

Place = tuple[str, int, int]


@dataclass(frozen=True)
class Sizes:
    """Bytes of a page as sent, in one encoding."""

    encoding: str
    median: int
    largest: int


@dataclass(frozen=True)
class Database:
    """What was measured on one database."""

    name: str
    neurons: int
    speeds: list[Measured]
    sizes: list[Sizes]

    def p50(self, case: str) -> float:
        """The median of a case, in milliseconds."""
        return self._of(case).p50

    def p95(self, case: str) -> float:
        """What 95% of a case's answers come within, in milliseconds."""
        return self._of(case).p95

    def _of(self, case: str) -> Measured:
        return next(one for one in self.speeds if one.name == case)


def measure(databases: dict[str, str], rounds: int, seconds: int, seed: int) -> list[Database]:
    """Serve all databases (name → address) at once, and measure them in turn.

    Raises NeurariumError.
    """
    cases: list[list[Case]] = []
    neurons: list[int] = []
    sizes: list[list[Sizes]] = []
    with ExitStack() as stack:
        for url in databases.values():
            total, places = _places(url, seed)
            here = stack.enter_context(servers.neurarium(url))
            pages = [urls.neuron(*place) for place in places]
            tag, body = _get(here + pages[0], "zstd")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (folder / "page.html").write_bytes(body)
            plain = stack.enter_context(servers.plain(folder))
            searched = searches.cases(here, url, seed)
            cases.append(_cases(here, plain, places, tag) + searched)
            neurons.append(total)
            sizes.append([_sizes(here, pages[:SAMPLE], encoding) for encoding in ENCODINGS])
        speeds = iter(interleaved([case for some in cases for case in some], rounds, seconds))
    return [
        Database(name, neurons[index], [next(speeds) for _ in cases[index]], sizes[index])
        for index, name in enumerate(databases)
    ]


def _cases(here: str, plain: str, places: Sequence[Place], tag: str) -> list[Case]:
    """What is asked of one database's server, and of the one that has a page's bytes only."""
    accepted = {"Accept-Encoding": "zstd"}
    pages = [urls.neuron(*place) for place in places]
    return [
        Case(PAGE, here, pages, accepted),
        Case(FILE, plain, ["/static/page.html"], accepted),
        Case(ROUTE, plain, ["/route/page.html"], accepted),
        Case(UNCHANGED, here, pages[:1], accepted | {"If-None-Match": tag}),
        Case(JSON, here, [urls.api_neuron(*place) for place in places], accepted),
    ]


def _places(url: str, seed: int) -> tuple[int, list[Place]]:
    """How many neurons a store has, and up to 50,000 of them: each once, in random order."""
    engine = open_store(url, create=False)
    runs = schema.runs
    with engine.connect() as connection:
        rows = connection.execute(select(runs.c.model, runs.c.widths).where(runs.c.ready)).all()
    engine.dispose()
    if not rows:
        raise NeurariumError(f"There is no run in {url}: index a model first.")
    layers = [(row.model, at, width) for row in rows for at, width in enumerate(row.widths)]
    total = sum(width for _, _, width in layers)
    chosen = random.Random(seed).sample(range(total), min(total, 50_000))
    places: dict[int, Place] = {}
    wanted, first = iter(sorted(chosen)), 0
    flat = next(wanted, None)
    for model, layer, width in layers:
        while flat is not None and flat < first + width:
            places[flat] = (model, layer, flat - first)
            flat = next(wanted, None)
        first += width
    return total, [places[flat] for flat in chosen]


def _get(address: str, encoding: str) -> tuple[str, bytes]:
    """The tag of an answer, and its body as sent. Raises NeurariumError."""
    request = urllib.request.Request(address, headers={"Accept-Encoding": encoding})
    try:
        with urllib.request.urlopen(request) as response:
            return response.headers["ETag"], response.read()
    except urllib.error.HTTPError as error:
        raise NeurariumError(f"{address} was answered with {error.code}.") from None


def _sizes(address: str, paths: Sequence[str], encoding: str) -> Sizes:
    sizes = [len(_get(address + path, encoding)[1]) for path in paths]
    return Sizes(encoding, int(statistics.median(sizes)), max(sizes))


def _show(out: Console, found: Sequence[Database], paints: Sequence[Painted]) -> None:
    for database in found:
        table = Table(
            "answer", title=f"{database.name}: {database.neurons:,} neurons", title_justify="left"
        )
        for column in ("p50 ms", "rounds' p50", "p95 ms", "bytes", "requests"):
            table.add_column(column, justify="right")
        for one in database.speeds:
            table.add_row(
                one.name + (" (repeated)" if one.repeated else ""),
                f"{one.p50:.2f}",
                f"{one.lowest:.2f}–{one.highest:.2f}",
                f"{one.p95:.2f}",
                f"{one.bytes:,}",
                f"{one.requests:,}",
            )
        out.print(table)
        sizes = Table("page's size", "median bytes", "largest")
        for size in database.sizes:
            sizes.add_row(size.encoding, f"{size.median:,}", f"{size.largest:,}")
        out.print(sizes)
    if paints:
        table = Table("load", "paint ms (median)", "loads' range", "layout shift", "loads")
        for paint in paints:
            table.add_row(
                f"{paint.name}, {paint.width} px",
                f"{paint.first_contentful_paint:.0f}",
                f"{paint.lowest:.0f}–{paint.highest:.0f}",
                f"{paint.layout_shift:.4f}",
                str(paint.loads),
            )
        out.print(table)
    for what, value, limit, unit in targets(found, paints):
        verdict = "[green]met[/]" if value <= limit else "[red]NOT met[/]"
        out.print(f"{verdict}: {what} {value:.2f}{unit} (at most {limit:g}{unit})")


def targets(
    found: Sequence[Database], paints: Sequence[Painted]
) -> list[tuple[str, float, float, str]]:
    """What was measured beside what was asked for: name, value, the most it may be, unit."""
    rows = []
    for one in found:
        size = next(size.median for size in one.sizes if size.encoding == "zstd")
        rows += [
            (f"{one.name}: {PAGE}", one.p50(PAGE), PAGE_MS, " ms"),
            (f"{one.name}: {UNCHANGED}", one.p50(UNCHANGED), UNCHANGED_MS, " ms"),
            (f"{one.name}: compressed (zstd)", size / 1000, PAGE_KB, " kB"),
        ]
        rows += [
            (f"{one.name}: {case}, p95", one.p95(case), limit, " ms")
            for limit, some in (
                (searches.SEARCH_MS, searches.SEARCHES),
                (searches.LISTING_MS, searches.LISTINGS),
            )
            for case in some
        ]
    first, last = found[0], found[-1]
    if first is not last:
        rows += [
            (f"{last.name} ÷ {first.name}: {case}", last.p50(case) / first.p50(case), LARGER, "")
            for case in (PAGE, UNCHANGED, JSON)
        ]
    for paint in (paint for paint in paints if paint.name.startswith(PAGE)):
        what = f"{paint.name}, {paint.width} px"
        rows += [
            (f"{what}: first contentful paint", paint.first_contentful_paint, PAINT_MS, " ms"),
            (f"{what}: layout shift", paint.layout_shift, 0.0, ""),
        ]
    return rows


def _machine() -> dict[str, Any]:
    """What the figures were measured with."""
    packages = ("fastapi", "starlette", "starlette-compress", "uvicorn", "sqlalchemy", "jinja2")
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "")


def _demo(folder: str) -> str:
    """Index the demo into a folder; the address of its database."""
    from app.cli.progress import ConsoleReporter
    from indexer.config import IndexConfig
    from indexer.run.index import index

    url = f"sqlite:///{folder}/demo.db"
    with ConsoleReporter(Console(stderr=True)) as reporter:
        index(IndexConfig(model="demo"), url, Path(folder) / "cache", reporter)
    return url


def main(
    demo: Annotated[
        str | None, typer.Option(help="A database with the demo. Default: it is indexed anew.")
    ] = None,
    large: Annotated[
        str | None, typer.Option(help="One made by benchmarks.store.synthetic. Default: left out.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times every case has its turn.")] = 7,
    seconds: Annotated[int, typer.Option(min=1, help="How long a turn is.")] = 3,
    loads: Annotated[int, typer.Option(min=0, help="Loads in Chromium; 0: none.")] = 15,
    seed: Annotated[int, typer.Option(help="Of the choice of neurons.")] = 0,
    save: Annotated[Path | None, typer.Option(help="Write all that was measured as JSON.")] = None,
) -> None:
    """Measure how fast the server answers."""
    out = Console(highlight=False)
    try:
        find_wrk()
        with ExitStack() as stack:
            if demo is None:
                demo = _demo(stack.enter_context(tempfile.TemporaryDirectory()))
            databases = {"demo": demo} | ({"synthetic": large} if large else {})
            found = measure(databases, rounds, seconds, seed)
            paints = _paints(demo, loads, seed) if loads else []
    except NeurariumError as error:
        out.print(f"[bold red]Error:[/] {error}", soft_wrap=True)
        raise typer.Exit(2) from None
    _show(out, found, paints)
    if not large:
        out.print("The synthetic database was left out: name it with --large.")
    if save is not None:
        everything = {
            "machine": _machine(),
            "databases": [asdict(one) for one in found],
            "paints": [asdict(one) for one in paints],
        }
        save.write_text(json.dumps(everything, indent=2) + "\n")


def _paints(url: str, loads: int, seed: int) -> list[Painted]:
    """Loads of the demo's pages in new tabs and in used ones, in a wide window and in a narrow one,
    each beside those of a page that holds one line of text."""
    _, places = _places(url, seed)
    paths = [urls.neuron(*place) for place in places[:loads]]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "line.html").write_text("<!doctype html><title>One</title><p>A line of text.")
        plain = stack.enter_context(servers.plain(folder))
        address = stack.enter_context(servers.neurarium(url))
        browser = stack.enter_context(chromium())
        lines = ["/route/line.html"] * len(paths)
        return [
            one
            for width in (1280, 390)
            for one in (
                *painted(browser, plain, lines, width, (LINE, f"{LINE}, {AGAIN}")),
                *painted(browser, address, paths, width, (PAGE, f"{PAGE}, {AGAIN}")),
            )
        ]


if __name__ == "__main__":
    typer.run(main)
