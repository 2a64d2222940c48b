"""Draws examples as lines of markup. Pages have many, and a template would take much longer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from markupsafe import Markup, escape

from app.drawing import tokens as highlight
from app.drawing.numbers import exact, number
from app.drawing.palette import Palette
from app.drawing.tokens import Row
from app.examples.schemas import Example
from app.schemas import View

REACH: dict[View, int | None] = {"peak": highlight.LINE_TOKENS, "window": 32, "context": None}
"""Positions on either side of the peak that each view needs; None: all stored positions."""

Address = Callable[[int], str]
"""Makes the address of a whole context from its id."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a page draws its lines."""

    view: View
    colours: Palette
    address: Address
    also: Mapping[int, int] = field(default_factory=dict)
    """Contexts that are also top examples of a second neuron, with their ranks there."""
    titled: bool = False
    """Whether each token carries its whole title, for readers without JavaScript."""


class Line(NamedTuple):
    """An example, and those folded into it with the same text. All strings are markup."""

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
    """The first token's position in the context."""
    source: str
    factors: str
    """Gate and linear part in short; empty if there are none."""
    facts: str
    """Where the example comes from."""
    seen: str
    """Where on the page the example stood before; empty if it did not."""
    others: list[tuple[Example, str]]
    """The folded examples, with their exact peaks or troughs."""


class Kind(NamedTuple):
    """Examples for one list of lines."""

    examples: Sequence[Example]
    trough: bool = False
    """Whether lines are aligned on the trough instead of the peak."""
    factors: bool = False
    """Whether lines have the gate and the linear part."""
    named: bool = True
    """Whether lines have their source."""
    seen: Mapping[int, str] = MappingProxyType({})
    """Contexts that stood on the page before, with the place, such as "top 3"."""


class _Entry(NamedTuple):
    """An example that gets a line, and those folded into it."""

    example: Example
    row: Row
    others: list[tuple[Example, str]]


def lines(kinds: Sequence[Kind], layout: Layout) -> list[list[Line]]:
    """The lines of each kind; examples of a kind with the same text share a line."""
    by_kind = [_entries(kind, layout) for kind in kinds]
    rows = [entry.row for entries in by_kind for entry in entries]
    # Lines have short titles, which a script completes; whole contexts have full titles.
    breaks, brief = layout.view != "peak", layout.view != "context" and not layout.titled
    spans = iter(highlight.spans(rows, layout.colours, breaks=breaks, brief=brief))
    return [
        [_line(entry, *next(spans), kind, layout) for entry in entries]
        for kind, entries in zip(kinds, by_kind, strict=True)
    ]


def _entries(kind: Kind, layout: Layout) -> list[_Entry]:
    by_text: dict[tuple[str, str], _Entry] = {}
    for example in kind.examples:
        tokens, at, value = example.tokens, example.peak_position - example.start, example.peak
        if kind.trough:
            at, value = example.trough_position - example.start, example.trough
        first, end = 0, len(tokens)
        if layout.view == "peak":
            # A stored window without its own peak is drawn from its start.
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
        by_text[text] = _Entry(example, row, [])
    return list(by_text.values())


def _line(entry: _Entry, left: str, right: str, kind: Kind, layout: Layout) -> Line:
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
        seen=_seen([example, *(other for other, _ in entry.others)], kind),
        others=entry.others,
    )


def _seen(examples: Sequence[Example], kind: Kind) -> str:
    """Where the first of examples with one text stood before, if all did."""
    if not all(example.context_id in kind.seen for example in examples):
        return ""
    return kind.seen[examples[0].context_id]


def markup(rows: Sequence[Line], layout: Layout) -> Markup:
    """Lines as a list. A line opens, and contexts.js puts the whole context there; without
    JavaScript it has a link. In the view `context` the list has the contexts themselves."""
    draw = _context if layout.view == "context" else _opening
    items = "\n".join(draw(line, layout) for line in rows)
    # Classes name the columns, since with :has() the layout would shift while the page loads.
    columns = " gated" if any(line.factors for line in rows) else ""
    columns += " named" if any(line.source for line in rows) else ""
    return Markup(f'<ol class="{layout.view}s{columns}">\n{items}\n</ol>')


def _factors(example: Example) -> str:
    if example.gate is None or example.linear is None:
        return ""
    return f"g {number(example.gate)} · l {number(example.linear)}"


def _facts(example: Example, trough: bool) -> str:
    """Facts about an example, for its opened line."""
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
    repeated = ' class="repeated"' if line.seen else ""
    seen = f'<span class="stood">= {line.seen}</span>' if line.seen else ""
    also = f"also {line.seen} · " if line.seen else ""
    if layout.view == "peak":
        text = aligned(line)
    else:
        text = f'<span class="text tok" data-at="{line.start}">{line.right}</span>'
    return (
        f'<li{repeated}><details class="example"><summary>{_start(line)}{_also(line, layout)}'
        f"{factors}{text}{source}{seen}</summary>"
        f'<div class="opened"><p class="facts">{also}{line.facts} · '
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
    """A mark on lines whose context is also a top example of the second neuron."""
    if not layout.also:
        return ""
    examples = (line.example, *(other for other, _ in line.others))
    ids = [example.context_id for example in examples]
    ranks = sorted(layout.also[context_id] for context_id in ids if context_id in layout.also)
    if not ranks:
        return ""
    named = ", ".join(map(str, ranks))
    return (
        f'<span class="also" title="top example {named} of the other">'
        f'<span aria-hidden="true">↔ </span><span class="unseen">of both, there </span>{ranks[0]}'
        "</span>"
    )


def _linked(layout: Layout, example: Example) -> str:
    # Addresses are percent-encoded: only the & between parameters needs to be escaped.
    return layout.address(example.context_id).replace("&", "&amp;")


def _context(line: Line, layout: Layout) -> str:
    context_id = line.example.context_id
    repeated = ' class="repeated"' if line.seen else ""
    seen = f'<span class="stood">= {line.seen}</span> ' if line.seen else ""
    return (
        f'<li{repeated}><div class="head">{_start(line)} {seen}<span class="facts">{line.facts} · '
        f'<a href="{_linked(layout, line.example)}">open full page</a></span></div>'
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
