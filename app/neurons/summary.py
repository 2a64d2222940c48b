"""What a neuron does, in a few lines: the tokens and sources of its top examples, and the tokens it
promotes and suppresses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.drawing.characters import PIECE, is_piece
from app.drawing.logo import Column, columns, logo, short
from app.drawing.numbers import count, share
from app.examples.schemas import Example
from app.neurons.ends import both_ends
from app.neurons.schemas import NeuronPage, SourceCount, TokenValue

TOKENS = 9
"""Tokens of each line."""


@dataclass(frozen=True, slots=True)
class TokenChip:
    """A token as a link to the neurons that do the same with it."""

    text: Markup
    href: str
    count: str
    """How many examples peak on it; empty where nothing is counted."""
    dim: bool
    """Whether it never occurs in the corpus, or, if that is not known, is no text by itself."""


@dataclass(frozen=True, slots=True)
class SourceShare:
    """A source of top examples."""

    name: str
    count: int
    share: str
    """Its share of the corpus; empty if unknown."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The lines of the summary; a line without entries is left out."""

    fires_on: list[TokenChip]
    lowest_on: list[TokenChip]
    """The tokens of the troughs of bottom examples, where they say as much."""
    found_in: list[SourceShare]
    shares: bool
    """Whether the sources' shares of the corpus are known."""
    of: int
    """Top examples."""
    promotes: list[TokenChip]
    suppresses: list[TokenChip]
    some_absent: bool
    """Whether a token of these two is known never to occur in the corpus."""


def summary(page: NeuronPage, find: Callable[[int, str | None], str]) -> Summary:
    """The summary of a neuron. `find`: from a token id and a role to the search for the token."""
    top = page.examples.top
    peaks = Counter(_peak(example) for example in top)
    effects = page.weights.logit_effects
    return Summary(
        fires_on=[
            _chip(token, find(token_id, "peak"), count(number))
            for (token, token_id), number in peaks.most_common(TOKENS)
        ],
        lowest_on=_lowest_on(page, find),
        found_in=[
            SourceShare(found.source, found.examples, _share(found)) for found in page.found_in
        ],
        shares=any(found.share is not None for found in page.found_in),
        of=len(top),
        promotes=_effects(effects.top, find, "promoted"),
        suppresses=_effects(effects.bottom, find, "suppressed"),
        some_absent=any(
            value.corpus_count == 0 for value in (*effects.top[:TOKENS], *effects.bottom[:TOKENS])
        ),
    )


def tokens_by_position(examples: Sequence[Example], *, trough: bool = False) -> Markup:
    """The logo of some examples, aligned on their peaks or troughs; empty where nothing repeats."""
    return logo(_columns(examples, trough), len(examples), "trough" if trough else "peak")


def _columns(examples: Sequence[Example], trough: bool) -> list[Column]:
    windows = []
    for example in examples:
        included = next(
            (place for place, value in enumerate(example.activations) if value is not None), 0
        )
        at = example.trough_position if trough else example.peak_position
        windows.append((example.tokens, at - example.start, included))
    return columns(windows)


def _lowest_on(page: NeuronPage, find: Callable[[int, str | None], str]) -> list[TokenChip]:
    if not both_ends(page):
        return []
    troughs = Counter(_trough(example) for example in page.examples.bottom)
    return [
        _chip(token, find(token_id, None), count(number))
        for (token, token_id), number in troughs.most_common(TOKENS)
    ]


def _trough(example: Example) -> tuple[str, int]:
    """The token at an example's trough: its text and its id."""
    at = example.trough_position - example.start
    if not 0 <= at < len(example.tokens):
        at = 0
    return example.tokens[at], example.token_ids[at]


def _peak(example: Example) -> tuple[str, int]:
    """The token at an example's peak: its text and its id."""
    at = example.peak_position - example.start
    if not 0 <= at < len(example.tokens):  # a window that does not reach its own peak
        at = 0
    return example.tokens[at], example.token_ids[at]


def _effects(
    values: Sequence[TokenValue], find: Callable[[int, str | None], str], role: str
) -> list[TokenChip]:
    return [
        _chip(value.token, find(value.token_id, role), dim=_dim(value)) for value in values[:TOKENS]
    ]


def _dim(value: TokenValue) -> bool:
    return "\\x" in value.token if value.corpus_count is None else value.corpus_count == 0


def _share(found: SourceCount) -> str:
    return "" if found.share is None else share(found.share)


def _chip(token: str, href: str, number: str = "", dim: bool = False) -> TokenChip:
    mark = PIECE if is_piece(token) else Markup()
    return TokenChip(mark + Markup(short(token)), href, number, dim)
