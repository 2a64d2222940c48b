"""Pure: examples → lines as markup. Apart from the templates, which would take several times as
long for the many lines of a page; from `highlight`, which knows tokens and no examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from markupsafe import Markup, escape

from app.drawing import tokens as highlight
from app.drawing.numbers import exact, number
from app.drawing.palette import Palette
from app.drawing.tokens import Row
from app.examples.schemas import Example
from app.web.params import Reading

REACH: dict[Reading, int | None] = {"peak": highlight.LINE_TOKENS, "window": 32, "context": None}
"""Positions on either side of the peak that are asked of the store; None: all it has."""

Address = Callable[[int], str]
"""Where a whole context is, by its id."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What all lines of a page have in common."""

    reading: Reading
    colours: Palette
    address: Address
    also: Mapping[int, int] = field(default_factory=dict)
    """Contexts that are top examples of the neuron beside this one, with their ranks there."""
    titled: bool = False
    """Whether each token of a line brings its whole title, for whom no script adds it."""


class Line(NamedTuple):
    """One example, and those folded into it since they show the same text.

    All strings are markup already: `markup` puts them together, and nothing else.
    """

    example: Example
    value: str
    """The exact peak or trough."""
    left: str
    """Empty, unless aligned."""
    right: str
    """From the peak on; unless aligned, all of the text."""
    start: int
    """The position in the context of the first token that is shown."""
    source: str
    factors: str
    """Gate and linear part in short; empty where there are none."""
    facts: str
    others: list[tuple[Example, str]]
    """Those folded into it, with their exact peaks or troughs."""


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
    """An example that gets a line, and those folded into it."""

    example: Example
    row: Row
    others: list[tuple[Example, str]]


def lines(kinds: Sequence[Kind], layout: Layout) -> list[list[Line]]:
    """Each kind's examples as lines; of those in a list that show the same text one is a line."""
    chosen = [_chosen(kind, layout) for kind in kinds]
    rows = [some.row for found in chosen for some in found]
    # A whole context says all of each token without any script; a line is short, and leads there.
    breaks, brief = layout.reading != "peak", layout.reading != "context" and not layout.titled
    shown = iter(highlight.spans(rows, layout.colours, breaks=breaks, brief=brief))
    return [
        [_line(some, *next(shown), kind, layout) for some in found]
        for kind, found in zip(kinds, chosen, strict=True)
    ]


def _chosen(kind: Kind, layout: Layout) -> list[_Chosen]:
    found: dict[tuple[str, str], _Chosen] = {}
    for one in kind.examples:
        tokens, at, value = one.tokens, one.peak_position - one.start, one.peak
        if kind.trough:
            at, value = one.trough_position - one.start, one.trough
        first, end = 0, len(tokens)
        if layout.reading == "peak":
            # A window that does not hold its own peak is shown from its start.
            first, end = highlight.extent(tokens, at if 0 <= at < end else 0)
        cut = max(first, min(at, end))
        text = "".join(tokens[first:cut]), "".join(tokens[cut:end])
        if text in found:
            found[text].others.append((one, exact(value)))
            continue
        row = Row(
            tokens[first:end],
            one.token_ids[first:end],
            one.activations[first:end],
            one.start + first,
            at - first,
            value,
        )
        found[text] = _Chosen(one, row, [])
    return list(found.values())


def _line(some: _Chosen, left: str, right: str, kind: Kind, layout: Layout) -> Line:
    one, aligned = some.example, layout.reading == "peak"
    return Line(
        example=one,
        value=exact(some.row.value),
        left=left if aligned else "",
        right=right if aligned else left + right,
        start=some.row.start,
        source=_source(one) if kind.named else "",
        factors=_factors(one) if kind.factors else "",
        facts=_facts(one, kind.trough),
        others=some.others,
    )


def markup(some: Sequence[Line], layout: Layout) -> Markup:
    """Lines as a list. An aligned line or a window opens; contexts.js puts its whole context there,
    and without it there is a link. A context is in place."""
    show = _context if layout.reading == "context" else _opening
    items = "\n".join(show(line, layout) for line in some)
    # Which columns there are is said here: found out by :has(), it would change while a page comes.
    columns = " gated" if any(line.factors for line in some) else ""
    columns += " named" if any(line.source for line in some) else ""
    return Markup(f'<ol class="{layout.reading}s{columns}">\n{items}\n</ol>')


def _factors(example: Example) -> str:
    if example.gate is None or example.linear is None:
        return ""
    return f"g {number(example.gate)} · l {number(example.linear)}"


def _facts(example: Example, trough: bool) -> str:
    """What an opened line says of its context."""
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
    return f'<span class="rank">{line.example.rank}</span><b class="value">{line.value}</b>{times}'


def _opening(line: Line, layout: Layout) -> str:
    factors = f'<span class="factors">{line.factors}</span>' if line.factors else ""
    source = f'<span class="source">{line.source}</span>' if line.source else ""
    if layout.reading == "peak":
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
    """The tokens of a line that is aligned on its peak, as markup."""
    return (
        f'<span class="line tok" data-at="{line.start}">'
        f'<span class="left"><span>{line.left}</span></span>'
        f'<span class="right">{line.right}</span></span>'
    )


def _also(line: Line, layout: Layout) -> str:
    """What a line says of the same context, or one folded into it, at the neuron beside this."""
    if not layout.also:
        return ""
    examples = (line.example, *(other for other, _ in line.others))
    ranks = sorted(layout.also[one.context_id] for one in examples if one.context_id in layout.also)
    if not ranks:
        return ""
    said = ", ".join(map(str, ranks))
    return (
        f'<span class="also" title="top example {said} of the other neuron">'
        f'<span aria-hidden="true">↔ </span><span class="unseen">of both, there </span>{ranks[0]}'
        "</span>"
    )


def _linked(layout: Layout, example: Example) -> str:
    # Addresses are quoted where they are made: all that is left to escape is between parameters.
    return layout.address(example.context_id).replace("&", "&amp;")


def _context(line: Line, layout: Layout) -> str:
    context_id = line.example.context_id
    return (
        f'<li><div class="head">{_start(line)} <span class="facts">{line.facts} · '
        f'<a href="{_linked(layout, line.example)}">own page</a></span></div>'
        f"{whole(context_id, line.right)}{_others(line, layout)}</li>"
    )


def whole(context_id: int, text: str) -> Markup:
    """The element that holds a whole context, wherever one is shown; `text` is markup."""
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
