"""The README and the pages of docs/, read as tests need them: their code, tables and spans."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {path: path.read_text() for path in (ROOT / "README.md", *sorted(DOCS.glob("*.md")))}
LINKING = PAGES | {path: path.read_text() for path in (ROOT / "CHANGELOG.md",)}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text)


def code(text: str) -> list[str]:
    """Every piece of code in a page: fenced blocks and inline spans."""
    return [*(block for _, block in FENCE.findall(text)), *re.findall(r"`([^`\n]+)`", prose(text))]


CODE = [piece for text in PAGES.values() for piece in code(text)]
"""Every piece of code in all pages."""


def table_rows(text: str) -> Iterator[list[str]]:
    """The cells of every line of a page's tables, headers too."""
    for line in re.findall(r"^\| ?(.*?) ?\|$", prose(text), re.MULTILINE):
        yield re.split(r" ?(?<!\\)\| ?", line)


def spans(cell: str) -> list[str]:
    """The code spans of a cell."""
    return re.findall(r"`([^`]+)`", cell)


def check_none(names: Iterable[str], what: str) -> None:
    """Fail if there are any names, and list them all."""
    assert not (listed := sorted(names)), f"{what}: {', '.join(listed)}"


def check_once(documented: Counter[str], existing: set[str], what: str) -> None:
    """Fail unless exactly what exists is documented, each name once."""
    check_none(existing - set(documented), f"{what} not documented")
    check_none(set(documented) - existing, f"{what} documented that do not exist")
    check_none((name for name, n in documented.items() if n > 1), f"{what} documented twice")
