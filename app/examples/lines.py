"""Examples as lines of markup: there are many, and a template takes several times as long."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from markupsafe import Markup, escape

from app.drawing import tokens as highlight
from app.drawing.numbers import exact, number
from app.drawing.tokens import Palette, Row
from app.examples.schemas import Example
from app.schemas import View

REACH: dict[View, int | None] = {"peak": highlight.LINE_TOKENS, "window": 32, "context": None}
"""Positions on either side of the peak that each view needs; None: all that are stored."""

Address = Callable[[int], str]
"""From a context's id to the address of the whole context."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What all lines of a page have in common."""

    view: View
    colours: Palette
    address: Address
    also: Mapping[int, int] = field(default_factory=dict)
    """Contexts that are also top examples of the neuron compared with, and their ranks there."""
    titled: bool = False
    """Whether each token of a line carries its whole title, for readers without JavaScript."""


class Line(NamedTuple):
    """One example, and the examples folded into it because they show the same text.

    All strings are markup already.
    """

    example: Example
    value: str
    """The exact peak or trough."""
    brief: str
    """The same in three significant digits."""
    left: str
    """The tokens before the peak; empty unless aligned."""
    right: str
    """The tokens from the peak on; all tokens unless aligned."""
    start: int
    """The position in the context of the first token here."""
    source: str
    factors: str
    """Gate and linear part in short; empty if there are none."""
    facts: str
    others: list[tuple[Example, str]]
    """The folded examples, with their exact peaks or troughs."""


class Kind(NamedTuple):
    """Examples that make up one list."""

    examples: Sequence[Example]
    trough: bool = False
    """Whether they are aligned on the trough."""
    factors: bool = False
    """Whether a line gives gate and linear part."""
    named: bool = True
    """Whether a line gives its source."""


class _Chosen(NamedTuple):
    """An example that gets a line, and the examples folded into it."""

    example: Example
    row: Row
    others: list[tuple[Example, str]]


def lines(kinds: Sequence[Kind], layout: Layout) -> list[list[Line]]:
    """Each kind's examples as lines; examples of a kind that show the same text share one line."""
    chosen = [_chosen(kind, layout) for kind in kinds]
    rows = [entry.row for entries in chosen for entry in entries]
    # Whole contexts carry full titles; a line stays small, and a script completes its titles.
    breaks, brief = layout.view != "peak", layout.view != "context" and not layout.titled
    spans = iter(highlight.spans(rows, layout.colours, breaks=breaks, brief=brief))
    return [
        [_line(entry, *next(spans), kind, layout) for entry in entries]
        for kind, entries in zip(kinds, chosen, strict=True)
    ]


def _chosen(kind: Kind, layout: Layout) -> list[_Chosen]:
    by_text: dict[tuple[str, str], _Chosen] = {}
    for example in kind.examples:
        tokens, at, value = example.tokens, example.peak_position - example.start, example.peak
        if kind.trough:
            at, value = example.trough_position - example.start, example.trough
        first, end = 0, len(tokens)
        if layout.view == "peak":
            # A window that does not hold its own peak begins the line.
            first, end = highlight.extent(tokens, at if 0 <= at < end else 0)
        cut = max(first, min(at, end))
        text = "".join(tokens[first:cut]), "".join(tokens[cut:end])
        if text in by_text:
            by_text[text].others.append((example, exact(value)))
            continue
        row = Row(
            tokens[first:end],
            example.token_ids[first:end],
            example.activations[first:end],
            example.start + first,
            at - first,
            value,
        )
        by_text[text] = _Chosen(example, row, [])
    return list(by_text.values())


def _line(entry: _Chosen, left: str, right: str, kind: Kind, layout: Layout) -> Line:
    example, aligned = entry.example, layout.view == "peak"
    return Line(
        example=example,
        value=exact(entry.row.value),
        brief=number(entry.row.value),
        left=left if aligned else "",
        right=right if aligned else left + right,
        start=entry.row.start,
        source=_source(example) if kind.named else "",
        factors=_factors(example) if kind.factors else "",
        facts=_facts(example, kind.trough),
        others=entry.others,
    )


def markup(rows: Sequence[Line], layout: Layout) -> Markup:
    """Lines as a list. An aligned line or a window opens, and contexts.js puts the whole context
    there; without JavaScript it has a link. The context view shows contexts in place."""
    show = _context if layout.view == "context" else _opening
    items = "\n".join(show(line, layout) for line in rows)
    # The columns are classes: with :has() the layout would shift while the page loads.
    columns = " gated" if any(line.factors for line in rows) else ""
    columns += " named" if any(line.source for line in rows) else ""
    return Markup(f'<ol class="{layout.view}s{columns}">\n{items}\n</ol>')


def _factors(example: Example) -> str:
    if example.gate is None or example.linear is None:
        return ""
    return f"g {number(example.gate)} · l {number(example.linear)}"


def _facts(example: Example, trough: bool) -> str:
    """The facts about its context that an opened line shows."""
    facts = f"position {example.trough_position if trough else example.peak_position}"
    if example.gate is not None and example.linear is not None:
        facts += f" · gate {number(example.gate)}, linear part {number(example.linear)}"
    facts += f" · context {example.context_id} · document {example.document_index}"
    return f"{facts} · {_source(example)}" if example.source else facts


def _source(example: Example) -> str:
    return _escaped(example.source or "")


@lru_cache(maxsize=1 << 10)
def _escaped(text: str) -> str:
    return str(escape(text))


def _start(line: Line) -> str:
    times = f'<span class="times">×{len(line.others) + 1}</span>' if line.others else ""
    value = f'<b class="value" title="{line.value}">{line.brief}</b>'
    return f'<span class="rank">{line.example.rank}</span>{value}{times}'


def _opening(line: Line, layout: Layout) -> str:
    factors = f'<span class="factors">{line.factors}</span>' if line.factors else ""
    source = f'<span class="source">{line.source}</span>' if line.source else ""
    if layout.view == "peak":
        text = aligned(line)
    else:
        text = f'<span class="text tok" data-at="{line.start}">{line.right}</span>'
    return (
        f'<li><details class="example"><summary>{_start(line)}{_also(line, layout)}{factors}{text}'
        f"{source}</summary>"
        f'<div class="opened"><p class="facts">{line.facts} · '
        f'<a class="fetch" href="{_linked(layout, line.example)}">whole context'
        f"</a></p>{_others(line, layout)}</div></details></li>"
    )


def aligned(line: Line) -> str:
    """The tokens of an aligned line, as markup."""
    return (
        f'<span class="line tok" data-at="{line.start}">'
        f'<span class="left"><span>{line.left}</span></span>'
        f'<span class="right">{line.right}</span></span>'
    )


def _also(line: Line, layout: Layout) -> str:
    """A mark on lines whose context is also a top example of the neuron compared with."""
    if not layout.also:
        return ""
    examples = (line.example, *(other for other, _ in line.others))
    ranks = sorted(layout.also[one.context_id] for one in examples if one.context_id in layout.also)
    if not ranks:
        return ""
    named = ", ".join(map(str, ranks))
    return (
        f'<span class="also" title="top example {named} of the other neuron">'
        f'<span aria-hidden="true">↔ </span><span class="unseen">of both, there </span>{ranks[0]}'
        "</span>"
    )


def _linked(layout: Layout, example: Example) -> str:
    # Addresses are quoted when they are made: only the & between parameters is left to escape.
    return layout.address(example.context_id).replace("&", "&amp;")


def _context(line: Line, layout: Layout) -> str:
    context_id = line.example.context_id
    return (
        f'<li><div class="head">{_start(line)} <span class="facts">{line.facts} · '
        f'<a href="{_linked(layout, line.example)}">own page</a></span></div>'
        f"{whole(context_id, line.right)}{_others(line, layout)}</li>"
    )


def whole(context_id: int, text: str) -> Markup:
    """The element that holds a whole context; `text` is markup."""
    return Markup(
        f'<div class="whole" data-context="{context_id}"><p class="tok" role="group" '
        f'aria-label="Context {context_id}">{text}</p></div>'
    )


def _others(line: Line, layout: Layout) -> str:
    if not line.others:
        return ""
    links = ", ".join(
        f'<a href="{_linked(layout, other)}">{other.context_id}</a> ({value})'
        for other, value in line.others
    )
    return f'<p class="facts">The same text, in contexts {links}</p>'
