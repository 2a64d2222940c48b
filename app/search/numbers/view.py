"""The page of the search by statistics: columns, example queries, errors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from markupsafe import Markup

from app.drawing.charts import bar
from app.drawing.numbers import MISSING, number
from app.drawing.quoting import printable
from app.reading.statistics import HEAD_STATISTICS, HEADS_SHOWN, STATISTICS
from app.schemas import NeuronRef, WholeRun
from app.search.numbers import grammar as number_grammar
from app.search.numbers.grammar import GrammarError, Order, Query, source_word
from app.search.numbers.schemas import NumberRow, NumberSearch
from app.web.frame import Frame
from app.web.links import Links
from indexer.store.units import HEADS

_DEFAULT_COLUMNS = ("max", "density", "mean", "kurtosis", "effect_kurtosis")
"""The columns beside the query's own, as far as there is room."""
_EXAMPLES = (
    "max>5 density<10%",
    "effect_kurtosis>3 dead:no",
    "kurtosis>20 layer:0",
    "in_out_cosine<-0.5",
    "density>50% sort:-mean",
    "dead:yes sort:neuron",
    "alike>0.9",
)
_HEAD_COLUMNS = (*HEADS_SHOWN, "max")
"""The same in runs of attention heads."""
_HEAD_EXAMPLES = (
    "induction>0.5",
    "previous_token>0.3 layer:0",
    "sort:-effect",
    "copying>0.5 effect_text>0",
    "bos>50% sort:entropy",
    "sort:-induction_text",
)
_LONGEST_SOURCE = 24
"""The most characters of a source's name in an example query."""


@dataclass(frozen=True, slots=True)
class ColumnHead:
    """The head of a column."""

    name: str
    words: str
    href: str
    """The same search sorted by the column, or in reverse if it is already."""
    sorted: Literal["", "ascending", "descending"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A statistic of a neuron, with a bar if that is meaningful."""

    text: str
    bar: Markup
    neuron: NeuronRef | None = None
    """The other neuron that the statistic is about."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a query cannot be parsed, and its wrong part."""

    detail: str
    before: str
    wrong: str
    after: str


@dataclass(frozen=True, slots=True)
class NumberView:
    """What the page shows besides its `WholeRun` or `NumberSearch`."""

    text: str
    """The text in the box."""
    longest: int
    problem: Problem | None
    examples: list[tuple[str, str]]
    """Example queries, with their addresses."""
    definitions: dict[str, str]
    """The definition of each statistic."""
    place: ColumnHead | None
    """The column of neurons; None without results."""
    columns: list[ColumnHead]
    rows: list[tuple[NumberRow, list[Cell]]]


@dataclass(frozen=True, slots=True)
class NumbersContext:
    """What `search/numbers.html` is rendered with."""

    frame: Frame
    page: WholeRun
    """A `NumberSearch`, unless the query could not be parsed."""
    layers: int
    """The layers that have units."""
    view: NumberView
    cursor: str | None


def results_view(page: NumberSearch, query: Query, text: str, links: Links) -> NumberView:
    """The view of a search's results; `text` is the query as typed."""
    names = list(query.statistics)
    usual = _HEAD_COLUMNS if _is_of_heads(page) else _DEFAULT_COLUMNS
    room = max(0, len(usual) - len(names))
    more = [name for name in usual if name not in names][:room]
    highest = max((abs(row.max) for row in page.items), default=0.0)
    # A column that was not asked for is left out where no row has it.
    names += [
        name
        for name in more
        if any(_cell(row, name, highest).text != MISSING for row in page.items)
    ]
    return NumberView(
        text=printable(text),
        longest=number_grammar.LONGEST,
        problem=None,
        examples=_examples(page, links),
        definitions=_definitions(page),
        place=replace(_head(query, "neuron", links), words=page.run.units.noun.capitalize()),
        columns=[_head(query, name, links) for name in names],
        rows=[(row, [_cell(row, name, highest) for name in names]) for row in page.items],
    )


def refused_view(page: WholeRun, error: GrammarError, links: Links) -> NumberView:
    """The box with a query that cannot be parsed, what is wrong with it, and examples."""
    return NumberView(
        text=printable(error.text),
        longest=number_grammar.LONGEST,
        problem=Problem(error.detail, *error.excerpt),
        examples=_examples(page, links),
        definitions=_definitions(page),
        place=None,
        columns=[],
        rows=[],
    )


def _is_of_heads(page: WholeRun) -> bool:
    return page.run.units.set == HEADS


def _definitions(page: WholeRun) -> dict[str, str]:
    """The statistics that the run's units can have, a head's scores first."""
    units = page.run.units
    lacking = {
        *(("effect_kurtosis", "alike") if units.no_writes else ()),
        *(("in_out_cosine", "gate_out_cosine") if units.no_reads or units.no_writes else ()),
    }
    scores = HEAD_STATISTICS if _is_of_heads(page) else {}
    stored = {
        name: f"{known.definition}, of {units.counted}" if known.counts else known.definition
        for name, known in (scores | STATISTICS).items()
    }
    everything = stored | number_grammar.COMPUTED
    return {name: words for name, words in everything.items() if name not in lacking}


def _head(query: Query, name: str, links: Links) -> ColumnHead:
    order = query.order
    active = order.name == name
    # As on a layer's page, neurons ascend and statistics descend.
    descending = not order.descending if active else name != "neuron"
    label = number_grammar.ALL[name].label if name in number_grammar.ALL else name
    return ColumnHead(
        name=name,
        words=label if name.startswith("selectivity(") else label[:1].upper() + label[1:],
        href=links.search_numbers(q=str(replace(query, sort=Order(name, descending)))),
        sorted=("descending" if order.descending else "ascending") if active else "",
    )


def _cell(row: NumberRow, name: str, highest: float) -> Cell:
    if name in HEAD_STATISTICS:
        return Cell(HEAD_STATISTICS[name].text(row.computed.get(name)), Markup())
    if name not in STATISTICS:
        partner = row.partner if name == "alike" else None
        return Cell(number(row.computed.get(name)), Markup(), partner)
    value: float | None = getattr(row, name)
    statistic = STATISTICS[name]
    if statistic.is_share:
        return Cell(statistic.text(value), bar(value, 1))
    if name == "max":
        return Cell(statistic.text(value), bar(value, highest, "pos" if row.max > 0 else "neg"))
    return Cell(statistic.text(value), Markup())


def _examples(page: WholeRun, links: Links) -> list[tuple[str, str]]:
    """Example queries; the last is by source if the run has a source with a short name."""
    sources = [name for name in page.sources if name and len(name) <= _LONGEST_SOURCE]
    usual = _HEAD_EXAMPLES if _is_of_heads(page) else _EXAMPLES
    texts = [*usual, *(f"source:{source_word(name)} max>1" for name in sources[:1])]
    if len(page.sources) > 1:
        texts += [f"sort:-{number_grammar.selectivity(name)}" for name in sources[:1]]
    return [(text, links.search_numbers(q=text)) for text in texts]
