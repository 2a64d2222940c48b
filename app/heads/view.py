"""A head's page: its scores, examples and circuits as markup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from app.drawing.characters import chip
from app.drawing.numbers import count
from app.heads.lines import RANKINGS, Listed, line
from app.heads.schemas import HeadPage, PairExample, TokenCount
from app.heads.scores import GROUNDS, SCORES
from app.heads.weights import HeadWeightsView, weights_view
from app.reading.statistics import HEAD_SCORES
from app.web.frame import Frame
from app.web.links import Links

IN_LINE = ("induction", "previous_token", "effect", "duplicate_token", "bos", "entropy", "distance")
"""The scores under the title; a phone shows the first three."""
CARD_LINES = 5
"""Pairs of a card."""
TOKENS = 9
"""Tokens of each line of the summary."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A score on both grounds."""

    label: str
    definition: str
    repeated: str
    text: str


@dataclass(frozen=True, slots=True)
class Stat:
    """A score in the line under the title."""

    label: str
    value: str
    definition: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the largest pairs, as a link to the search for it."""

    text: Markup
    href: str
    count: str
    """In how many pairs it is."""
    dim: bool = False


@dataclass(frozen=True, slots=True)
class HeadView:
    """What a head's page shows besides its `HeadPage`."""

    stats: list[Stat]
    queries: list[Token]
    """The tokens that most of the largest pairs come from."""
    keys: list[Token]
    """The tokens that most of the largest pairs look at."""
    scores: list[ScoreRow]
    lists: list[Listed]
    weights: HeadWeightsView


@dataclass(frozen=True, slots=True)
class HeadContextOfPage:
    """What `heads/head.html` is rendered with."""

    frame: Frame
    page: HeadPage
    view: HeadView
    form: str | None
    """Where a custom text is sent; None if the server runs without --live, and on bare pages."""
    notes: Any = None
    """The `notes.view.Box` of its notes; None if the server runs without --notes, and on bare
    pages."""


@dataclass(frozen=True, slots=True)
class HeadCard:
    """What `heads/embedded.html` is rendered with."""

    frame: Frame
    page: HeadPage
    view: HeadView
    """With the first strongest pairs alone."""


def head_card(view: HeadView) -> HeadView:
    """The same with the first strongest pairs as the only list."""
    first = view.lists[:1]
    return replace(view, lists=[replace(one, lines=one.lines[:CARD_LINES]) for one in first])


def head_view(page: HeadPage, links: Links, contexts: Callable[[int], tuple[str, str]]) -> HeadView:
    """The view of a head; `contexts` makes the addresses of a context's page and JSON."""
    repeated, text = page.scores.repeated, page.scores.text
    rows = []
    for name in HEAD_SCORES:
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
            lines = [line(example, name, *contexts(example.context_id)) for example in examples]
            lists.append(Listed(name, title, part, purpose, lines))
    return HeadView(
        stats=_stats(page),
        queries=_tokens(page.tokens.queries, "query", links),
        keys=_tokens(page.tokens.keys, "key", links),
        scores=rows,
        lists=lists,
        weights=weights_view(page, links),
    )


def _stats(page: HeadPage) -> list[Stat]:
    """The scores under the title: on repeated random tokens, which are the same for all heads."""
    values = page.scores.repeated
    stats = []
    for name in IN_LINE:
        score = SCORES[name]
        value = score.words(getattr(values, name))
        stats.append(
            Stat(_small(score.label), value, f"{score.definition}, {GROUNDS[score.ground]}")
        )
    copying = SCORES["copying"]
    value = copying.words(page.circuits.copying)
    return [*stats, Stat(_small(copying.label), value, copying.definition)]


def _small(label: str) -> str:
    """A label as the statistics of neurons have them, but for abbreviations."""
    return label if label.isupper() else label.lower()


def _tokens(tokens: list[TokenCount], role: str, links: Links) -> list[Token]:
    return [
        Token(
            chip(entry.token),
            links.search(token_id=entry.token_id, role=role),
            count(entry.count),
        )
        for entry in tokens[:TOKENS]
    ]
