"""Pure: tokens, ids and activations → spans to show, as safe markup.

A page shows thousands of tokens, and this is where its time goes: one loop, in which a token's text
is looked up rather than escaped anew. A span has its colour as a class (`p1`…`p10`, `n1`…`n10`):
the pages' content policy allows no inline style.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import cast

import numpy as np
from markupsafe import Markup

from app.characters import chip, joined, label, spaced, together, visible
from app.numbers import exact, number

__all__ = ["Palette", "around", "chip", "extent", "palette", "render", "step", "visible"]

STEPS = 10
"""Steps of colour on either side of zero."""
NOT_INCLUDED = "x"
"""Class of a token at a position that is not included (BOS): it has no activation."""
PEAK = "k"
"""Class of the token an example is aligned on, beside its colour."""

LINE_LEFT = 47
LINE_RIGHT = 62
"""About so many characters of a line are to be seen on either side of where its peak begins."""
LINE_TOKENS = 28
"""…and never more tokens than this on a side, however short they are."""
LINE_CHARACTERS = 80
"""A longer token is cut in a line: its middle is left out."""
BLOCK_CHARACTERS = 1_000
"""A longer token is cut everywhere."""
TITLE_CHARACTERS = 40

_FINE = 20 * STEPS
"""Parts of the scale that are told apart: half a percent each, so that whole percents and whole
steps both begin at one."""


def _opening(css: str) -> str:
    return f'<span class="{css}" title="' if css else '<span title="'


def _step_of(part: int) -> int:
    return (part + STEPS) // (2 * STEPS)


_OPEN_POSITIVE, _OPEN_NEGATIVE = (
    [_opening(f"{sign}{_step_of(part)}" if _step_of(part) else "") for part in range(_FINE + 1)]
    for sign in "pn"
)
_OF_MAX, _OF_MIN = (
    [f", {(part + 1) // 2}% of {end}" for part in range(_FINE + 1)] for end in ("max", "min")
)
_OPEN_ZERO, _OPEN_OUT = _opening(""), _opening(NOT_INCLUDED)

# What a span's title says up to its position, in three parts, each looked up: formatting a number
# takes longer than all else that is done to a token. Below zero comes after above zero.
_OPENINGS = [*_OPEN_POSITIVE, *(f"{opening}−" for opening in _OPEN_NEGATIVE)]
_SHARES = [f"{said}, position " for said in (*_OF_MAX, *_OF_MIN)]
_LEAST, _MOST = 1e-4, 99.9
"""Between these an activation's three digits are looked up; few are outside."""
_DECADES = np.array([1e-3, 1e-2, 1e-1, 1.0, 10.0])
_FACTORS = np.array([1e6, 1e5, 1e4, 1e3, 1e2, 1e1])
_DIGITS = [f"{m / factor:#.3g}" for factor in _FACTORS.tolist() for m in range(1001)]


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one page: what turns an activation into a part of the scale."""

    colour: float
    """Parts of the colour scale that one unit of activation is; the scale is the same both ways."""
    of_max: float
    of_min: float
    """Parts of the neuron's maximum, and of its minimum, that one unit is; 0: it has none."""


def palette(scale: float, *, low: float, high: float) -> Palette:
    """The palette of a neuron with this range; `scale` is the magnitude of the last colour."""

    def parts(end: float) -> float:
        return _FINE / end if math.isfinite(end) and end > 1e-30 else 0.0

    return Palette(parts(scale), parts(high), parts(-low))


def step(value: float | None, scale: float) -> str:
    """The colour class of an activation: its tenths of `scale`, rounded; `""` for the zeroth.

    `scale` is the largest magnitude of the page, so the same colour is the same activation.
    """
    if value is None:
        return NOT_INCLUDED
    if scale <= 0 or value != value:
        return ""
    tenths = min(STEPS, int(abs(value) / scale * STEPS + 0.5))
    return f"{'p' if value > 0 else 'n'}{tenths}" if tenths else ""


def _cut(text: str, most: int) -> str:
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


@lru_cache(maxsize=1 << 15)
def _in_line(token: str, token_id: int) -> str | None:
    """What ends a token's span in a line; None where its bytes may need others' to be a character.

    Kept for the tokens met last: here is where their characters become HTML.
    """
    return None if "\\x" in token else _ending(token, token_id, breaks=False)


@lru_cache(maxsize=1 << 13)
def _in_block(token: str, token_id: int) -> str | None:
    """The same in running text, where a line break breaks the line."""
    return None if "\\x" in token else _ending(token, token_id, breaks=True)


def _ending(token: str, token_id: int, *, breaks: bool) -> str:
    body = visible(_cut(token, BLOCK_CHARACTERS if breaks else LINE_CHARACTERS), breaks=breaks)
    return f', id {token_id}: {label(_cut(token, TITLE_CHARACTERS))}">{body}</span>'


def extent(tokens: Sequence[str], centre: int) -> tuple[int, int]:
    """First index and end of the tokens that a line aligned on `centre` has room for."""
    room, first = LINE_LEFT, centre
    least = max(0, centre - LINE_TOKENS)
    while room > 0 and first > least:
        first -= 1
        room -= len(tokens[first])
    room, end = LINE_RIGHT, centre
    most = min(len(tokens), centre + LINE_TOKENS + 1)
    while room > 0 and end < most:
        room -= len(tokens[end])
        end += 1
    return first, end


def around(
    tokens: Sequence[str],
    token_ids: Sequence[int],
    activations: Sequence[float | None],
    *,
    start: int,
    colours: Palette,
    centre: int | None = None,
    value: float = 0.0,
    breaks: bool = False,
    begun: Sequence[str] | None = None,
) -> tuple[Markup, Markup]:
    """The tokens as spans, those before the one an example is aligned on apart from the rest.

    `tokens`, `token_ids` and `activations` are equally long; `start` is the position in the context
    of the first. `centre` is the index of the token to align on, a `<mark>` (None, or out of
    range: none, and all is to the right); `value` its exact activation. Tokens that only together
    make up whole characters share a span. With `breaks`, lines are broken where the text does.
    `begun` is `beginnings` of the activations, where they were made for many examples at once.
    Every span's title names activation, share of the neuron's maximum (of its minimum, below zero),
    position, id and text: in this order, what repeats along a line stands together, and a page is a
    tenth smaller. Raises ValueError if the lengths differ.
    """
    if not len(tokens) == len(token_ids) == len(activations):
        raise ValueError("tokens, ids and activations differ in number")
    ends = list(map(_in_block if breaks else _in_line, tokens, token_ids))
    starts = list(beginnings(activations, colours) if begun is None else begun)
    at = list(map(str, range(start, start + len(tokens))))
    marked = -1 if centre is None or centre >= len(tokens) else centre
    before = max(0, marked)
    if marked >= 0:
        starts[marked] = _mark_beginning(value, colours)
    if None in ends:
        row = [value if i == marked else one for i, one in enumerate(activations)]
        first = _join(starts, at, ends, tokens, token_ids, row, start, colours, marked, breaks)
        before = max(0, first)
    if marked >= 0 and at[marked]:
        ends[marked] = _mark_ending(tokens[marked], token_ids[marked], breaks)
    spans: list[Iterable[str]] = list(zip(starts, at, cast("list[str]", ends), strict=True))
    return (
        Markup("".join(chain.from_iterable(spans[:before]))),
        Markup("".join(chain.from_iterable(spans[before:]))),
    )


def beginnings(activations: Sequence[float | None], colours: Palette) -> list[str]:
    """How each token's span begins, up to its position. All at once: numpy is quick with many."""
    values = np.array(activations, np.float64)  # None becomes NaN
    size = np.abs(values)
    usual = (size >= _LEAST) & (size < _MOST)
    size[~usual] = 0
    below = values < 0
    decade = np.searchsorted(_DECADES, size, side="right")
    digits = (size * _FACTORS[decade] + 0.5).astype(np.intp) + 1001 * decade
    offset = below * (_FINE + 1)
    ends = np.where(below, colours.of_min, colours.of_max)
    parts = np.minimum(size * colours.colour, _FINE).astype(np.intp) + offset
    shares = np.minimum(size * ends, _FINE).astype(np.intp) + offset
    made = [
        _OPENINGS[part] + _DIGITS[digit] + _SHARES[share]
        for part, digit, share in zip(parts.tolist(), digits.tolist(), shares.tolist(), strict=True)
    ]
    for i in np.flatnonzero(~usual).tolist():
        value = activations[i]
        made[i] = f"{_paint(value, colours)}{_fact(value, colours)}, position "
    return made


def _join(
    starts: list[str],
    at: list[str],
    ends: list[str | None],
    tokens: Sequence[str],
    token_ids: Sequence[int],
    values: Sequence[float | None],
    start: int,
    colours: Palette,
    marked: int,
    breaks: bool,
) -> int:
    """Put right the spans of tokens that hold single bytes: one for each whole character.

    Returns where the span with the mark begins, which may be before the token that is marked.
    """
    before, done = marked, 0
    for i, ending in enumerate(ends):
        if ending is not None or i < done:
            continue
        last = together(tokens, i)
        done = last + 1
        ends[i] = _ending(tokens[i], token_ids[i], breaks=breaks)
        if last > i:
            if i <= marked <= last:
                before = i
            span = slice(i, done)
            nothing = [""] * (last - i)
            parts = (tokens[span], token_ids[span], values[span])
            shown = _several(*parts, start + i, colours, marked - i, breaks)
            starts[span], at[span], ends[span] = [shown, *nothing], ["", *nothing], ["", *nothing]
    return before


def render(
    tokens: Sequence[str],
    token_ids: Sequence[int],
    activations: Sequence[float | None],
    *,
    start: int,
    colours: Palette,
    centre: int | None = None,
    value: float = 0.0,
) -> Markup:
    """The tokens as running text; otherwise as `around`."""
    left, right = around(
        tokens,
        token_ids,
        activations,
        start=start,
        colours=colours,
        centre=centre,
        value=value,
        breaks=True,
    )
    return left + right


def _parts(value: float, per_unit: float) -> int:
    scaled = abs(value * per_unit)
    return min(_FINE, int(scaled)) if math.isfinite(scaled) else 0


def _paint(value: float | None, colours: Palette) -> str:
    if value is None:
        return _OPEN_OUT
    return (_OPEN_POSITIVE if value > 0 else _OPEN_NEGATIVE)[_parts(value, colours.colour)]


def _share(value: float, colours: Palette) -> str:
    if value < 0:
        return _OF_MIN[_parts(value, colours.of_min)]
    return _OF_MAX[_parts(value, colours.of_max)]


def _fact(value: float | None, colours: Palette, *, exactly: bool = False) -> str:
    """An activation in words, with its share."""
    if value is None:
        return "not included"
    shown = f"{exact(value)} exactly" if exactly else number(value)
    return f"{shown}{_share(value, colours)}"


@lru_cache(maxsize=2 * _FINE)
def _as_mark(opening: str) -> str:
    """A span's start as that of the mark an example is aligned on."""
    if opening == _OPEN_ZERO:
        return f'<mark class="{PEAK}" title="'
    return opening.replace("<span", "<mark").replace('" title', f' {PEAK}" title')


def _marked_body(text: str, breaks: bool) -> Markup:
    """The text of a mark: here the space a token begins with is what it is told apart by."""
    if breaks and "\n" in text:
        return visible(text, breaks=True)
    return spaced(text, trailing=False)


def _mark_beginning(value: float, colours: Palette) -> str:
    return f"{_as_mark(_paint(value, colours))}{_fact(value, colours, exactly=True)}, position "


@lru_cache(maxsize=1 << 12)
def _mark_ending(token: str, token_id: int, breaks: bool) -> str:
    body = _marked_body(_cut(token, BLOCK_CHARACTERS if breaks else LINE_CHARACTERS), breaks)
    return f', id {token_id}: {label(_cut(token, TITLE_CHARACTERS))}">{body}</mark>'


def _several(
    tokens: Sequence[str],
    token_ids: Sequence[int],
    values: Sequence[float | None],
    first: int,
    colours: Palette,
    marked: int,
    breaks: bool,
) -> str:
    """Tokens that only together make up whole characters, as one span that names its parts.

    Its colour is that of the mark, or else of the activation of largest magnitude.
    """
    here = range(len(tokens))
    strongest = max((v for v in values if v is not None), key=abs, default=None)
    opening = _paint(values[marked] if marked in here else strongest, colours)
    text = _cut(joined(tokens), BLOCK_CHARACTERS if breaks else LINE_CHARACTERS)
    parts = "; ".join(
        f"{_fact(values[i], colours, exactly=i == marked)}, position {first + i}, "
        f"id {token_ids[i]}: {label(_cut(tokens[i], TITLE_CHARACTERS))}"
        for i in here
    )
    title = f"{len(tokens)} tokens together, {parts}"
    if marked in here:
        return f'{_as_mark(opening)}{title}">{_marked_body(text, breaks)}</mark>'
    return f'{opening}{title}">{visible(text, breaks=breaks)}</span>'
