"""The style sheets hold no dead rules, and take colours, type sizes and spaces from the theme."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from app.web import assets

STATIC, TEMPLATES = assets.folder("static"), assets.folder("templates")
SHEETS = {name: (STATIC / f"{name}.css").read_text() for name in assets.STYLES}
THEME = "base/theme"
NAME = r"[A-Za-z][\w-]*"
BUILT = r"[pn]([1-9]|10)|b[0-2]|l[0-8]|s[0-4]|(peak|window|context)s"
"""Class names that Python puts together: steps of colour and of logos, bands and layers of a
chart, layouts of examples."""


def bare(css: str) -> str:
    """A style sheet without its comments and strings."""
    return re.sub(r'"[^"]*"', '""', re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL))


def named(css: str) -> set[str]:
    """The classes and ids in the selectors of a style sheet, each with its `.` or `#`."""
    selectors = re.findall(r"([^{};]*)\{", bare(css))
    return {name for text in selectors for name in re.findall(rf"[.#]{NAME}", text)}


def attributes(markup: str) -> Iterator[str]:
    """All words in the class and id attributes of markup."""
    for value in re.findall(r'\b(?:class|id)="([^"]*)', markup):
        yield from re.findall(NAME, value)


def in_templates() -> set[str]:
    """What templates name: in attributes, also under a condition."""
    text = "".join(path.read_text() for path in TEMPLATES.rglob("*.html"))
    return set(attributes(re.sub(r"\{[#%{].*?[#%}]\}", " ", text, flags=re.DOTALL)))


def in_python() -> set[str]:
    """What Python names: in the markup it writes, and in strings of one word."""
    root = Path(assets.__file__).parents[1]
    trees = [ast.parse(path.read_text()) for path in root.rglob("*.py")]
    nodes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    texts = [node.value for node in nodes if isinstance(node.value, str)]
    words = {text.strip() for text in texts if re.fullmatch(rf" ?{NAME}", text)}
    return words.union(*map(attributes, texts))


def in_scripts() -> set[str]:
    """What scripts name: in strings of one word."""
    text = "".join(path.read_text() for path in STATIC.rglob("*.js"))
    return set(re.findall(rf'"({NAME})"', text))


@cache
def used() -> set[str]:
    """All class names and ids that some element can have."""
    return in_templates() | in_python() | in_scripts()


@pytest.mark.parametrize("sheet", SHEETS)
def test_every_selector_is_used(sheet: str) -> None:
    """A template, a view or a script gives some element each class and id of a style sheet."""
    names = {name for name in named(SHEETS[sheet]) if not re.fullmatch(BUILT, name[1:])}
    dead = {name for name in names if name[1:] not in used()}
    assert not dead, f"{sheet}.css styles what nothing has: {sorted(dead)}"


def test_dead_selectors_are_noticed() -> None:
    """Names are read out of selectors, not out of comments, strings, values or properties."""
    css = '/* .a */ .b:not(.c, #d) > e[f=".g"] { h: url(".i"); j: .5em } @media (x) { .k { l: 1 } }'
    assert named(css) == {".b", ".c", "#d", ".k"}
    assert set(attributes('<p class="a b" title="c" id="d">')) == {*"abd"}


def test_every_property_of_the_theme_is_used() -> None:
    """The theme defines no custom property that no style sheet uses."""
    everything = "".join(SHEETS.values())
    defined = set(re.findall(r"(--[\w-]+):", SHEETS[THEME]))
    assert not {name for name in defined if f"var({name})" not in everything}


@pytest.mark.parametrize("sheet", sorted(SHEETS.keys() - {THEME}))
def test_colours_sizes_and_spaces_come_from_the_theme(sheet: str) -> None:
    """Elsewhere no colour has a value of its own, and no type or space a length in rem or px."""
    css = bare(SHEETS[sheet])
    declared = re.findall(r"([\w-]+):\s*([^;{}]+);", css)
    assert not [value for _, value in declared if re.search(r"#[0-9a-f]{3,8}\b|\b(rgb|hsl)", value)]
    measured = re.compile(r"(padding|margin|(row-|column-)?gap|font)(-[\w-]+)?")
    assert not [
        f"{name}: {value}"
        for name, value in declared
        if measured.fullmatch(name) and re.search(r"\d(rem|px)", value)
    ]
