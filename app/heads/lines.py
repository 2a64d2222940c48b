"""Lines of examples: the text with its query and key marked, other keys shaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.drawing.characters import chip, chip_in_text, visible
from app.drawing.numbers import MISSING, number, share
from app.heads.colours import colour
from app.heads.schemas import PairExample

_GAP = 40
"""In a line, a longer stretch between key and query is left out but for its ends."""

_ENDS = 12

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
        "Where the head directly raises the logit of the true next token most.",
    ),
    "hurts": (
        "Hurts most",
        "direct effect on the true next token",
        "Where the head directly lowers the logit of the true next token most.",
    ),
    "random": (
        "Random",
        "the same contexts for every head",
        "The strongest pair of each randomly drawn context. A good explanation should account for "
        "these too.",
    ),
}
"""Title, part and purpose of each list of examples."""


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


def line(example: PairExample, ranking: str, href: str, json_url: str) -> Line:
    """An example in markup, with the addresses of its context's page and JSON."""
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
        f"{share(example.left_out)} of the row not stored",
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
        out.append(token_markup(token, example.start + i, attention, i == query, i == key))
    return Markup("".join(out))


def token_markup(token: str, position: int, attention: float, is_query: bool, is_key: bool) -> str:
    """A token shaded by the attention to it."""
    css = colour(attention, 0.0, 1.0) if attention else ""
    css = f' class="{css}"' if css else ""
    title = f' title="{escape(share(attention))}"' if attention else ""
    text = str(visible(token))
    if is_key and not is_query:
        text = f"<mark>{text}</mark>"
    if is_query:
        text = f"<u>{text}</u>"
    return f'<span data-p="{position}"{css}{title}>{text}</span>'


def token_chip_in(tokens: Sequence[str], at: int) -> Markup:
    """A token of a text in a box."""
    return Markup('<span class="chip">{}</span>').format(chip_in_text(tokens, at))


def token_chip(token: str) -> Markup:
    """A token in a box."""
    return Markup('<span class="chip">{}</span>').format(chip(token))


def whole_text(
    tokens: Sequence[str], row: Sequence[tuple[int, float]], query: int | None
) -> Markup:
    """All tokens of a text, shaded by a query's row; None: not shaded."""
    kept = dict(row)
    return Markup(
        "".join(
            token_markup(token, position, kept.get(position, 0.0), position == query, False)
            for position, token in enumerate(tokens)
        )
    )
