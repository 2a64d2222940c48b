"""The pages of attention heads: the picture of all heads, lines of examples, the grid of a context.

Colours are those of activations: a key's shade is its share of the query's attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.drawing.characters import chip, visible
from app.drawing.numbers import MISSING, count, number, share
from app.heads.schemas import (
    Composition,
    HeadContext,
    HeadPage,
    HeadRow,
    HeadScores,
    HeadsPage,
    PairExample,
    TokenPair,
)
from app.web.frame import Frame
from app.web.links import Links

STEPS = 10
"""Colours of attention, and of scores in the picture."""
PITCH, SIDE = 22, 20
"""The distance between cells of the picture and the side of a cell, in user units."""
_LEAST_SHARE = 0.1
"""What the strongest colour means at least: smaller shares stay pale."""
_GAP = 40
"""In a line, a longer stretch between key and query is left out but for its ends."""
_ENDS = 12
_GRID_MOST = 96
"""Positions of a grid; longer contexts are shown as a list of rows alone."""
_CELL = 7


@dataclass(frozen=True, slots=True)
class Score:
    """A score that heads can be sorted and coloured by."""

    name: str
    label: str
    definition: str
    ground: str
    """`repeated`, `text`, or empty where text plays no part."""
    signed: bool = False
    is_share: bool = True

    def of(self, head: HeadRow) -> float | None:
        """A head's value."""
        if not self.ground:
            return head.scores.copying
        scores: HeadScores = getattr(head.scores, self.ground)
        value: float | None = getattr(scores, self.name.removesuffix("_text"))
        return value

    def words(self, value: float | None) -> str:
        """A value as pages show it."""
        return share(value) if self.is_share and value is not None else number(value)


_ATTENTION = {
    "induction": ("Induction", "attention to tokens right after an earlier copy of the token"),
    "previous_token": ("Previous token", "attention to the token before"),
    "duplicate_token": ("Duplicate token", "attention to earlier copies of the token"),
    "self_token": ("Self", "attention to the token itself"),
    "bos": ("BOS", "attention to the BOS"),
}
_OTHER = {
    "effect": ("Direct effect", "mean direct effect on the right next token’s logit", True),
    "entropy": ("Entropy", "entropy of a row of the pattern, in nats", False),
    "distance": ("Distance", "mean distance looked back, weighted by attention", False),
    "distance_spread": ("Distance, spread", "standard deviation of that distance", False),
}


def _both() -> dict[str, Score]:
    found = {}
    for suffix, ground in (("", "repeated"), ("_text", "text")):
        for name, (label, words) in _ATTENTION.items():
            found[name + suffix] = Score(name + suffix, label, words, ground)
        for name, (label, words, signed) in _OTHER.items():
            found[name + suffix] = Score(name + suffix, label, words, ground, signed, False)
    return found


SCORES: dict[str, Score] = _both() | {
    "copying": Score(
        "copying",
        "Copying",
        "eigenvalues of the full OV circuit: 1 where every token raises itself",
        "",
        True,
        False,
    )
}
"""By name in queries and addresses."""
DEFAULT = "induction"
GROUNDS = {"repeated": "on repeated random tokens", "text": "on text", "": "from the weights"}
RANKINGS = {
    "moved": (
        "Strongest pairs",
        "attention × length of what is moved",
        "The pair of every context with the largest attention × ‖v W_O‖: what the head moves most. "
        "Exact over all contexts.",
    ),
    "attention": (
        "Highest attention",
        "attention alone",
        "The pair of every context with the largest attention. A head can attend to what it does "
        "not move: compare with the list above.",
    ),
    "helps": (
        "Helps most",
        "direct effect on the true next token",
        "Where the head itself raises the logit of the token that comes next most.",
    ),
    "hurts": (
        "Hurts most",
        "direct effect on the true next token",
        "Where the head itself lowers the logit of the token that comes next most.",
    ),
    "random": (
        "Random",
        "the same contexts for every head",
        "The strongest pair of contexts nobody chose. A good explanation should account for these "
        "too.",
    ),
}
"""Title, part and purpose of each list of examples."""


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column of the table of heads."""

    name: str
    words: str
    href: str
    sorted: str | None
    """`descending` for the column that sorts the table; else None."""
    title: str


@dataclass(frozen=True, slots=True)
class TableRow:
    """A head in the table."""

    name: str
    href: str
    cells: list[str]


@dataclass(frozen=True, slots=True)
class HeadsView:
    """What the page of all heads shows besides its `HeadsPage`."""

    score: Score
    picture: Markup
    choices: list[tuple[str, list[tuple[str, str, bool]]]]
    """By ground: label, address and whether it is the current one."""
    low: str
    high: str
    columns: list[Column]
    rows: list[TableRow]
    said: list[str]
    """What is known of the model's heads together, sentences."""


@dataclass(frozen=True, slots=True)
class HeadsContext:
    """What `heads/heads.html` is rendered with."""

    frame: Frame
    page: HeadsPage
    view: HeadsView


@dataclass(frozen=True, slots=True)
class Line:
    """An example of a pair, in markup."""

    value: str
    text: Markup
    words: str
    """The pair in words."""
    href: str
    """The whole context."""
    json_url: str
    facts: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of examples."""

    id: str
    title: str
    part: str
    purpose: str
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A score on both grounds."""

    label: str
    definition: str
    repeated: str
    text: str


@dataclass(frozen=True, slots=True)
class HeadView:
    """What a head's page shows besides its `HeadPage`."""

    scores: list[ScoreRow]
    lists: list[Listed]
    promoted: list[tuple[Markup, Markup, str]] | None
    matched: list[tuple[Markup, Markup, str]] | None
    composition: list[tuple[str, list[tuple[str, str, str]]]]
    """By side: name, address and score of earlier heads."""


@dataclass(frozen=True, slots=True)
class HeadContextOfPage:
    """What `heads/head.html` is rendered with."""

    frame: Frame
    page: HeadPage
    view: HeadView


@dataclass(frozen=True, slots=True)
class GridView:
    """What the page of a whole context shows besides its `HeadContext`."""

    text: Markup
    grid: Markup | None
    """None for contexts that are too long for one."""
    rows: list[tuple[Markup, int, Markup, str]]
    """Each token, its position, the keys it attends to most, and what is left out."""


@dataclass(frozen=True, slots=True)
class GridContext:
    """What `heads/context.html` is rendered with."""

    frame: Frame
    page: HeadContext
    view: GridView


Address = Callable[[str], str]
"""Makes the address of the same page with another score."""


def heads_view(page: HeadsPage, name: str, links: Links, address: Address) -> HeadsView:
    """The view of all heads, coloured and sorted by the score `name`."""
    score = SCORES[name]
    values = [score.of(head) for head in page.heads]
    known = [value for value in values if value is not None]
    low, high = _range(score, known)
    order = sorted(
        range(len(values)),
        key=lambda i: (values[i] is None, -(values[i] or 0.0), i),
    )
    shown = [s for s in SCORES.values() if s.ground == score.ground or not s.ground]
    if not score.ground:
        shown = [s for s in SCORES.values() if s.ground != "text"]
    return HeadsView(
        score=score,
        picture=_picture(page, score, values, (low, high), links),
        choices=[
            (
                words,
                [
                    (s.label, address(s.name), s.name == name)
                    for s in SCORES.values()
                    if s.ground == ground
                ],
            )
            for ground, words in GROUNDS.items()
        ],
        low=score.words(low),
        high=score.words(high),
        columns=[
            Column(
                s.name,
                s.label,
                address(s.name),
                "descending" if s.name == name else None,
                s.definition,
            )
            for s in shown
        ],
        rows=[
            TableRow(
                name=f"L{page.heads[i].layer}H{page.heads[i].head}",
                href=links.neuron(page.heads[i].layer, page.heads[i].head),
                cells=[s.words(s.of(page.heads[i])) for s in shown],
            )
            for i in order
        ],
        said=_said(page),
    )


def _said(page: HeadsPage) -> list[str]:
    facts = page.facts
    repeated = facts.repeated
    said = [
        f"Repeated random tokens: {count(repeated.sequences)} sequences of {repeated.length} "
        f"random tokens, each repeated once (seed {repeated.seed}). Mean loss "
        f"{number(repeated.first_loss)} nats on the first copy, {number(repeated.second_loss)} on "
        "the second."
    ]
    if learning := facts.in_context:
        early, late = learning.early_positions, learning.late_positions
        said.append(
            f"In-context-learning score {number(learning.score)} nats: the mean loss at tokens "
            f"{late[0]}–{late[1]} minus that at tokens {early[0]}–{early[1]}, over "
            f"{count(learning.contexts)} contexts of the sample."
        )
    said.append(
        f"{count(facts.pairs)} pairs of positions were ranked: key before query, no special tokens."
    )
    return said


def _range(score: Score, known: Sequence[float]) -> tuple[float, float]:
    """The values of the palest and the strongest colour."""
    largest = max((abs(value) for value in known), default=1.0) or 1.0
    if score.is_share:
        return 0.0, 1.0 if largest > 0.5 else max(largest, _LEAST_SHARE)
    return (-largest, largest) if score.signed else (0.0, largest)


def colour(value: float, low: float, high: float) -> str:
    """The class of a value: `p1` to `p10` above 0, `n1` to `n10` below, empty near 0."""
    largest = max(abs(low), abs(high))
    steps = min(STEPS, math.ceil(abs(value) / largest * STEPS - 0.5)) if largest else 0
    return f"{'p' if value > 0 else 'n'}{steps}" if steps > 0 else ""


def _picture(
    page: HeadsPage,
    score: Score,
    values: Sequence[float | None],
    ends: tuple[float, float],
    links: Links,
) -> Markup:
    """All heads, a row a layer, each a link with a title. Readers without sight have the table."""
    wide = max((head.head for head in page.heads), default=0) + 1
    margin = 30
    out = [
        f'<svg class="heads-cells" width="{margin + wide * PITCH}" viewBox="0 0 '
        f'{margin + wide * PITCH} {page.n_layers * PITCH}" aria-hidden="true">'
    ]
    for layer in range(page.n_layers):
        y = layer * PITCH
        out.append(f'<text x="{margin - 6}" y="{y + SIDE / 2 + 4:g}">{layer}</text>')
    for head, value in zip(page.heads, values, strict=True):
        css = "v" if value is None else colour(value, *ends) or "z"
        x, y = margin + head.head * PITCH, head.layer * PITCH
        title = f"L{head.layer}H{head.head} · {score.words(value)}"
        href = escape(links.neuron(head.layer, head.head))
        out.append(
            f'<a href="{href}" class="{css}" tabindex="-1"><title>{title}</title>'
            f'<rect x="{x}" y="{y}" width="{SIDE}" height="{SIDE}"/></a>'
        )
    out.append("</svg>")
    return Markup("".join(out))


def head_view(page: HeadPage, links: Links, contexts: Callable[[int], tuple[str, str]]) -> HeadView:
    """The view of a head; `contexts` makes the addresses of a context's page and JSON."""
    repeated, text = page.scores.repeated, page.scores.text
    rows = []
    for name in (*_ATTENTION, *_OTHER):
        score = SCORES[name]
        rows.append(
            ScoreRow(
                score.label,
                score.definition,
                score.words(getattr(repeated, name)),
                score.words(getattr(text, name)),
            )
        )
    lists = []
    for name, (title, part, purpose) in RANKINGS.items():
        examples: list[PairExample] = getattr(page.examples, name)
        if examples:
            lines = [_line(example, name, *contexts(example.context_id)) for example in examples]
            lists.append(Listed(name, title, part, purpose, lines))
    circuits = page.circuits
    sides = (
        ("Queries", circuits.queries),
        ("Keys", circuits.keys),
        ("Values", circuits.values),
    )
    return HeadView(
        scores=rows,
        lists=lists,
        promoted=_pairs(circuits.promoted),
        matched=_pairs(circuits.matched),
        composition=[(name, _earlier(side, links)) for name, side in sides if side],
    )


def _pairs(pairs: list[TokenPair] | None) -> list[tuple[Markup, Markup, str]] | None:
    if pairs is None:
        return None
    return [(_chip(pair.first), _chip(pair.second), number(pair.value)) for pair in pairs]


def _chip(token: str) -> Markup:
    return Markup('<span class="chip">{}</span>').format(chip(token))


def _earlier(side: list[Composition], links: Links) -> list[tuple[str, str, str]]:
    return [(f"L{c.layer}H{c.head}", links.neuron(c.layer, c.head), number(c.score)) for c in side]


def _line(example: PairExample, ranking: str, href: str, json_url: str) -> Line:
    value = number(example.value)
    if ranking == "attention":
        value = share(example.value)
    return Line(
        value=value,
        text=_tokens(example),
        words=_words(example),
        href=href,
        json_url=json_url,
        facts=_facts(example),
    )


def _words(example: PairExample) -> str:
    if example.query == example.key:
        return "to itself"
    back = example.query - example.key
    return f"{back} back"


def _facts(example: PairExample) -> str:
    facts = [
        f"attention {share(example.attention)}",
        f"attention × length {number(example.moved)}",
        f"direct effect {number(example.effect) if example.effect is not None else MISSING}",
        f"{share(example.left_out)} of the row not kept",
        f"positions {example.query} → {example.key}",
        f"context {example.context_id}",
    ]
    if example.source:
        facts.append(example.source)
    return " · ".join(facts)


def _tokens(example: PairExample) -> Markup:
    """The tokens of a line: the query is underlined, the key is marked, all keys are shaded."""
    out: list[str] = []
    query, key = example.query - example.start, example.key - example.start
    skipped = range(0)
    if query - key > _GAP:
        skipped = range(key + _ENDS, query - _ENDS)
    for i, (token, attention) in enumerate(zip(example.tokens, example.row, strict=True)):
        if i in skipped:
            if i == skipped.start:
                out.append(f'<span class="gap">… {len(skipped)} tokens …</span>')
            continue
        out.append(_token(token, example.start + i, attention, i == query, i == key))
    return Markup("".join(out))


def _token(token: str, position: int, attention: float, is_query: bool, is_key: bool) -> str:
    css = colour(attention, 0.0, 1.0) if attention else ""
    css = f' class="{css}"' if css else ""
    said = f' title="{escape(share(attention))}"' if attention else ""
    text = str(visible(token))
    if is_key and not is_query:
        text = f"<mark>{text}</mark>"
    if is_query:
        text = f"<u>{text}</u>"
    return f'<span data-p="{position}"{css}{said}>{text}</span>'


def grid_view(page: HeadContext) -> GridView:
    """The view of a whole context."""
    length = len(page.tokens)
    rows = []
    for position, (token, row, left) in enumerate(
        zip(page.tokens, page.rows, page.left_out, strict=True)
    ):
        keys = Markup(", ").join(
            Markup("{} {}").format(_chip(page.tokens[key]), share(attention))
            for key, attention in row[:3]
        )
        rows.append((_chip(token), position, keys, share(left)))
    text = Markup(
        "".join(
            _token(token, position, 0.0, False, False) for position, token in enumerate(page.tokens)
        )
    )
    return GridView(text, _grid(page) if length <= _GRID_MOST * 2 else None, rows)


def _grid(page: HeadContext) -> Markup:
    """The pattern as a picture: a row a query, a column a key."""
    side = len(page.tokens) * _CELL
    out = [
        f'<svg class="pattern" viewBox="0 0 {side} {side}" role="img" '
        'aria-label="Attention: a row for each query, a column for each key">',
        f'<path class="causal" d="M0 0L{side} {side}H0z"/>',
    ]
    for query, row in enumerate(page.rows):
        for key, attention in row:
            css = colour(attention, 0.0, 1.0)
            if css:
                out.append(
                    f'<rect class="{css}" x="{key * _CELL}" y="{query * _CELL}" '
                    f'width="{_CELL}" height="{_CELL}"/>'
                )
    out.append("</svg>")
    return Markup("".join(out))
