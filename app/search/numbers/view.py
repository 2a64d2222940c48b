"""What the page of a search by number shows beside what was found: columns, examples, what is wrong
with a query. Apart so that the JSON holds no wording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from markupsafe import Markup

from app.drawing.charts import bar
from app.drawing.numbers import MISSING, number, share
from app.drawing.quoting import printable
from app.schemas import NumberGround
from app.search.numbers import grammar as number_grammar
from app.search.numbers.grammar import GrammarError, Order, Query, source_word
from app.search.numbers.schemas import NumberRow, NumberSearch
from app.web import urls

_USUAL = ("max", "density", "mean", "kurtosis", "effect_kurtosis")
"""Columns beside those asked about, as far as there is room."""
_SHARES = ("density", "density_over_tenth")
_EXAMPLES = (
    "max>5 density<10%",
    "effect_kurtosis>3 dead:no",
    "kurtosis>20 layer:0",
    "in_out_cosine<-0.5",
    "density>50% sort:-mean",
    "dead:yes sort:neuron",
)
_LONGEST_SOURCE = 24
DEFINITIONS = {
    "max": "largest activation over the whole corpus",
    "min": "smallest activation over the whole corpus",
    "mean": "mean activation over the sample’s positions",
    "std": "standard deviation, of the sample",
    "skewness": "third standardised moment, of the sample",
    "kurtosis": "excess kurtosis, of the sample: high where few positions hold the variance",
    "density": "share of the sample’s positions above zero",
    "density_over_tenth": "share at or above a tenth of the maximum",
    "effect_kurtosis": "excess kurtosis of its logit effects: high where they are about few tokens",
    "in_out_cosine": "cosine of what it reads and what it writes",
    "gate_out_cosine": "the same of the gate’s weights, in gated MLPs",
}
"""Every statistic in a few words."""


@dataclass(frozen=True, slots=True)
class ColumnHead:
    """One statistic's column; following `href` sorts by it, or turns the order round."""

    name: str
    words: str
    href: str
    sorted: Literal["", "ascending", "descending"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a neuron, with a bar where one says something."""

    text: str
    bar: Markup


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a query is not one, and which part of it."""

    detail: str
    before: str
    wrong: str
    after: str


@dataclass(frozen=True, slots=True)
class NumberView:
    """What the page shows beside its `NumberGround` or `NumberSearch`."""

    text: str
    """What stands in the box."""
    longest: int
    problem: Problem | None
    examples: list[tuple[str, str]]
    """Queries to try: the query, its address."""
    definitions: dict[str, str]
    place: ColumnHead | None
    """The column of the neurons' addresses; None where nothing was searched, as `columns`."""
    columns: list[ColumnHead]
    rows: list[tuple[NumberRow, list[Cell]]]


def found(page: NumberSearch, query: Query, text: str, run: int | None) -> NumberView:
    """What is shown of a search; `text` is what was typed, `run` what links go on naming."""
    names = list(query.asked)
    names += [name for name in _USUAL if name not in names][: max(0, len(_USUAL) - len(names))]

    def head(name: str) -> ColumnHead:
        return _head(query, name, lambda q: urls.search_numbers(page.model, q=q, run=run))

    highest = max((abs(row.max) for row in page.items), default=0.0)
    return NumberView(
        text=printable(text),
        longest=number_grammar.LONGEST,
        problem=None,
        examples=_examples(page, run),
        definitions=DEFINITIONS,
        place=head("neuron"),
        columns=[head(name) for name in names],
        rows=[(row, [_cell(row, name, highest) for name in names]) for row in page.items],
    )


def refused(page: NumberGround, error: GrammarError, run: int | None) -> NumberView:
    """What is shown of a text that is no query."""
    return NumberView(
        text=printable(error.text),
        longest=number_grammar.LONGEST,
        problem=Problem(error.detail, *error.excerpt),
        examples=_examples(page, run),
        definitions=DEFINITIONS,
        place=None,
        columns=[],
        rows=[],
    )


def _head(query: Query, name: str, address: Callable[[str], str]) -> ColumnHead:
    now = query.order
    active = now.name == name
    # As on a layer's page: neurons count up, statistics are looked at from the largest.
    descending = not now.descending if active else name != "neuron"
    return ColumnHead(
        name=name,
        words=name.replace("_", " ").capitalize().replace("In out", "In–out"),
        href=address(str(replace(query, sort=Order(name, descending)))),
        sorted=("descending" if now.descending else "ascending") if active else "",
    )


def _cell(row: NumberRow, name: str, highest: float) -> Cell:
    value: float | None = getattr(row, name)
    if name in _SHARES:
        return Cell(MISSING if value is None else share(value), bar(value, 1))
    if name == "max":
        return Cell(number(value), bar(value, highest, "pos" if row.max > 0 else "neg"))
    return Cell(number(value), Markup())


def _examples(page: NumberGround, run: int | None) -> list[tuple[str, str]]:
    """Queries to try; one of a source, where the run has one of a short name."""
    sources = [name for name in page.sources if name and len(name) <= _LONGEST_SOURCE]
    texts = [*_EXAMPLES, *(f"source:{source_word(name)} max>1" for name in sources[:1])]
    return [(text, urls.search_numbers(page.model, q=text, run=run)) for text in texts]
