"""The tables of the benchmarks' README are those of the saved results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import results, tables
from benchmarks.results import Figure, Result


def test_the_readme_shows_the_saved_results() -> None:
    """Its tables are what the JSON renders to: else run `python -m benchmarks.tables`."""
    readme = tables.README.read_text()
    assert tables.with_tables(readme) == readme


def test_every_result_is_shown() -> None:
    """Each file in results/ is in a table, and each table in the README."""
    saved = {path.stem for path in results.FOLDER.iterdir()}
    assert saved == {name for table in tables.TABLES.values() for name in table.results}
    marked = re.findall(r"<!-- table: (\S+) -->", tables.README.read_text())
    assert marked == list(tables.TABLES)
    for name, table in tables.TABLES.items():
        rows = {one.row for one in table_figures(name)}
        assert {*table.at_most, *table.at_least} <= rows, name


def table_figures(name: str) -> list[Figure]:
    files = [results.FOLDER / f"{one}.json" for one in tables.TABLES[name].results]
    return [figure for file in files for figure in results.load(file).figures]


def test_a_table_marks_what_misses_its_target() -> None:
    """Units stand in the row they share, else in the cell; ranges where there are any."""
    figures = [
        Figure.of("page", "a", [9.0, 11.0, 12.0], "ms"),
        Figure("page", "b", 10.0, "ms"),
        Figure("speed", "a", 1234.5, "tokens/s"),
        Figure("speed", "b", 0.949, "× trunk"),
        Figure("other", "b", 3.0, "kB"),
    ]
    text = tables.render(figures, ["speed", "page"], {"page": 10.0}, {"speed": 0.95})
    assert text.splitlines() == [
        "| | a | b | target |",
        "|---|---|---|---|",
        "| speed | 1,234 tokens/s | **0.95** × trunk | ≥ 0.95 |",
        "| page, ms | **11.0** (10.0–11.5) | 10.0 | ≤ 10 |",
    ]
    assert tables.render(figures[4:]) == "| | b |\n|---|---|\n| other, kB | 3.00 |"
    with pytest.raises(ValueError, match="same row and column"):
        tables.render([*figures, figures[0]])


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    """Figures, parameters and machine, and the file's name."""
    figures = [Figure("page", "demo", 1.5, "ms", 1.0, 2.0), Figure("shift", "demo", 0.0)]
    made = Result(
        "pages.serving", "2026-11-24", results.machine(), {"rounds": 3}, figures, "A note."
    )
    results.save(tmp_path / "pages.json", made)
    read = results.load(tmp_path / "pages.json")
    assert read == made
    assert read.name == "pages"
    assert tables.source_of(read).startswith("`pages.json`: `benchmarks.pages.serving`, 2026-11-24")
    assert tables.source_of(read).endswith("rounds 3. A note.")
