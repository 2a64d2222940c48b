"""Renders the tables of `benchmarks/README.md` from the JSON files in `benchmarks/results/`.

    python -m benchmarks.tables           # writes them into the README
    python -m benchmarks.tables --check   # exits with 1 where the README differs

A table stands in the README between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.results import FOLDER, Figure, Result, load, machine, save

README = Path(__file__).parent / "README.md"
_MARKED = re.compile(r"<!-- table: (\S+) -->\n.*?<!-- end -->", re.DOTALL)


@dataclass(frozen=True)
class Table:
    """What stands in one table."""

    results: tuple[str, ...]
    """Names of files in `results/`."""
    rows: tuple[str, ...] = ()
    """Which rows, in this order, where there are such figures; all of them by default."""
    at_most: Mapping[str, float] = field(default_factory=dict)
    """Targets by row. A value that misses its target is bold."""
    at_least: Mapping[str, float] = field(default_factory=dict)


PAGE_ROWS = ("page", "page's bytes, trivial route", "page, unchanged (304)", "JSON")
SEARCHES = (
    *("neurons of a token", "tokens by prefix", "two words", "phrase", "word prefix"),
    *("neurons of a context", "one statistic", "several statistics", "two neurons compared"),
)
_SIZES = ("page's size", "largest page")
LISTINGS = ("layer's page", "model's page", "list of 20 neurons")
PAINT_ROWS = (
    *(f"{size}, {coding}" for coding in ("zstd", "brotli", "gzip") for size in _SIZES),
    *("first paint, 1280 px", "first paint, 390 px"),
    *("a line of text, 1280 px", "a line of text, 390 px", "layout shift"),
)
SCAN_ROWS = tuple(
    f"{row}, {dtype}"
    for dtype in ("float32", "bfloat16")
    for row in (
        *("trunk", "model(tokens), rest", "scan, sample", "scan, rest", "scan, late"),
        *("scan, whole run", "scan, at 10M tokens"),
    )
)
WRITING_ROWS = ("writing", "processor time", "the scan's state", "more memory while writing")
BYTES_ROWS = (
    *("examples", "small arrays", "statistics, with indexes", "contexts", "search", "others"),
    "all",
)
_95 = ", 95% of answers"
TABLES: Mapping[str, Table] = {
    "pages": Table(
        ("pages",),
        rows=PAGE_ROWS,
        at_most={"page": 10.0, "page, unchanged (304)": 1.5},
    ),
    "searches": Table(
        ("pages",),
        rows=tuple(name + _95 for name in (*SEARCHES, *LISTINGS)),
        at_most={name + _95: 50.0 for name in SEARCHES} | {name + _95: 20.0 for name in LISTINGS},
    ),
    "pages-demo": Table(
        ("pages-demo",),
        rows=(*PAGE_ROWS, *(name + _95 for name in (*SEARCHES, *LISTINGS))),
    ),
    "load": Table(
        ("load",),
        at_most={
            "16 connections, 99% of pages": 150.0,
            "128 connections, 99% of pages": 600.0,
        },
        at_least={"16 connections, pages a second": 300.0},
    ),
    "load-kept": Table(
        ("load-kept",),
        at_most={
            "16 connections, 99% of pages": 150.0,
            "128 connections, 99% of pages": 600.0,
        },
        at_least={"16 connections, pages a second": 300.0},
    ),
    "attacks": Table(
        ("attacks",),
        at_most={
            f"{attack}, 99% of pages": 200.0
            for attack in ("4,000 half-open requests", "heads of 200 MB", "1,100 idle connections")
        },
    ),
    "checksums": Table(("checksums",), at_most={"page, added by checksums": 3.0}),
    "paint": Table(
        ("pages-demo",),
        rows=PAINT_ROWS,
        at_most={
            "page's size, zstd": 40.0,
            "first paint, 1280 px": 150.0,
            "first paint, 390 px": 150.0,
            "layout shift": 0.0,
        },
    ),
    "scan": Table(
        ("scan-128", "scan-1024"),
        rows=SCAN_ROWS,
        at_least={"scan, at 10M tokens, float32": 0.95, "scan, at 10M tokens, bfloat16": 0.90},
    ),
    "scan-demo": Table(("scan-demo",), rows=SCAN_ROWS),
    "latents": Table(("latents",), at_least={"scan, whole run": 0.8}),
    "latents-demo": Table(("latents-demo",), at_least={"scan, whole run": 0.8}),
    "first-visit": Table(("first-visit",), at_most={"until five pages are seen": 120.0}),
    "scan-heads": Table(
        ("scan-heads",),
        at_least={"scan of heads, sample": 0.7, "scan of heads, rest": 0.7},
    ),
    "memory": Table(("memory",)),
    "memory-latents": Table(("memory-latents", "memory-latents-65536")),
    "writing": Table(
        ("writing", "writing-500032"),
        rows=WRITING_ROWS,
        at_least={"writing": 5000.0},
    ),
    "bytes": Table(("bytes",), rows=BYTES_ROWS),
    "damaging": Table(("damaging",), at_most={"a wrong answer": 0.0}),
    "exporting": Table(("exporting",), at_most={"exporting": 60.0}),
}


def render(
    figures: Sequence[Figure],
    rows: Sequence[str] = (),
    at_most: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
) -> str:
    """A table in Markdown: rows and columns in the order in which the figures name them."""
    cells = {(one.row, one.column): one for one in figures}
    if len(cells) < len(figures):
        raise ValueError("two figures have the same row and column")
    have = dict.fromkeys(one.row for one in figures)
    rows = [row for row in rows if row in have] if rows else list(have)
    columns = list(dict.fromkeys(one.column for one in figures if one.row in rows))
    limits = {row: ("≤", most) for row, most in (at_most or {}).items()}
    limits |= {row: ("≥", least) for row, least in (at_least or {}).items()}
    lines = ["| |" + "".join(f" {name} |" for name in [*columns, *(["target"] if limits else [])])]
    lines.append("|---|" + "---|" * (len(columns) + bool(limits)))
    for row in rows:
        own = [cells.get((row, column)) for column in columns]
        units = {one.unit for one in own if one is not None}
        shared = units.pop() if len(units) == 1 else None
        texts = [_cell(one, shared, limits.get(row)) for one in own]
        if limits:
            sign, limit = limits.get(row, ("", 0.0))
            texts.append(f"{sign} {limit:g}" if sign else "")
        lines.append(f"| {row}{f', {shared}' if shared else ''} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def report(
    benchmark: str, parameters: Mapping[str, Any], figures: Sequence[Figure], path: Path | None
) -> None:
    """Print a benchmark's figures as a table, and save them where a path is given."""
    typer.echo(render(figures))
    if path is not None:
        today = datetime.now(UTC).date().isoformat()
        save(path, Result(benchmark, today, machine(), dict(parameters), list(figures)))


def _cell(figure: Figure | None, shared: str | None, limit: tuple[str, float] | None) -> str:
    """A value as text, with its quartiles, and its unit unless the row names that."""
    if figure is None:
        return ""
    form = ",.2f" if figure.value < 10 else ",.1f" if figure.value < 100 else ",.0f"
    text = f"{figure.value:{form}}"
    if limit is not None:
        sign, value = limit
        met = figure.value <= value if sign == "≤" else figure.value >= value
        text = text if met else f"**{text}**"
    if figure.unit and shared is None:
        text += f" {figure.unit}"
    if figure.low is not None and figure.high is not None and figure.low < figure.high:
        text += f" ({figure.low:{form}}–{figure.high:{form}})"
    return text


def source_of(result: Result) -> str:
    """When, where and with which parameters a result was measured, in a line."""
    parameters = ", ".join(f"{name} {value}" for name, value in result.parameters.items())
    processor, cores = result.machine["processor"], result.machine["cores"]
    note = f" {result.note}" if result.note else ""
    where = f"`{result.name}.json`: `benchmarks.{result.benchmark}`, {result.date}"
    return f"{where}, {processor}, {cores} cores; {parameters}.{note}"


def table(name: str, folder: Path = FOLDER) -> str:
    """A table of the README with the lines that say where its figures are from.

    Raises KeyError where there is no table of that name.
    """
    spec = TABLES[name]
    results = [load(folder / f"{one}.json") for one in spec.results]
    figures = [figure for result in results for figure in result.figures]
    text = render(figures, spec.rows, spec.at_most, spec.at_least)
    return "\n\n".join([text, *map(source_of, results)])


def with_tables(readme: str, folder: Path = FOLDER) -> str:
    """A README with every table rendered anew."""

    def rendered(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{table(match[1], folder)}\n<!-- end -->"

    return _MARKED.sub(rendered, readme)


def main(
    check: Annotated[
        bool, typer.Option(help="Write nothing; exit with 1 on a difference.")
    ] = False,
) -> None:
    """Render the README's tables."""
    before = README.read_text()
    after = with_tables(before)
    if check and before != after:
        typer.echo("The tables differ from benchmarks/results: run python -m benchmarks.tables")
        raise typer.Exit(1)
    README.write_text(after)


if __name__ == "__main__":
    typer.run(main)
