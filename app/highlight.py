"""Pure: tokens, ids and activations → spans to show, as safe markup.

A page shows thousands of tokens, and this is where its time goes: one loop, in which a token's text
is looked up rather than escaped anew. A span has its colour as a class (`p1`…`p10`, `n1`…`n10`):
the pages' content policy allows no inline style.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from app.characters import chip, joined, label, spaced, together, visible
from app.numbers import exact, number

__all__ = ["Palette", "Row", "chip", "extent", "palette", "render", "spans", "step", "visible"]

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


class Row(NamedTuple):
    """A stretch of one context; its three lists are equally long."""

    tokens: Sequence[str]
    token_ids: Sequence[int]
    activations: Sequence[float | None]
    start: int
    """The position in the context of the first token."""
    centre: int | None = None
    """The index of the token to align on, a `<mark>`; None, or out of range: there is none."""
    value: float = 0.0
    """Its exact activation."""


def spans(
    rows: Sequence[Row], colours: Palette, *, breaks: bool = False
) -> list[tuple[Markup, Markup]]:
    """Each row's tokens as spans, those before the one it is aligned on apart from the rest.

    Without a token to align on all is to the right. Tokens that only together make up whole
    characters share a span. With `breaks`, lines are broken where the text does. A span's title
    names activation, share of the neuron's maximum (of its minimum, below zero), position, id and
    text: in this order, what repeats along a line stands together, and a page is a tenth smaller.
    All rows of a page are best given at once. Raises ValueError where lengths differ.
    """
    tokens = [token for row in rows for token in row.tokens]
    token_ids = [token_id for row in rows for token_id in row.token_ids]
    values = [value for row in rows for value in row.activations]
    if any(not len(row.tokens) == len(row.token_ids) == len(row.activations) for row in rows):
        raise ValueError("tokens, ids and activations differ in number")
    at = [i for row in rows for i in range(row.start, row.start + len(row.tokens))]
    ends = list(map(_in_block if breaks else _in_line, tokens, token_ids))
    openings, digits, shares, unusual = _looked_up(values, colours)
    # The one loop over all tokens of a page.
    made = [
        f"{_OPENINGS[opening]}{_DIGITS[digit]}{_SHARES[share]}{position}{end}"
        for opening, digit, share, position, end in zip(
            openings, digits, shares, at, ends, strict=True
        )
    ]
    for i in unusual:
        made[i] = f"{_beginning(values[i], colours)}{at[i]}{ends[i]}"
    shown = []
    done = 0
    for row in rows:
        first, done = done, done + len(row.tokens)
        mark = row.centre if row.centre is not None and 0 <= row.centre < len(row.tokens) else None
        before = 0 if mark is None else mark
        if mark is not None:
            made[first + mark] = _mark(
                row.tokens[mark], row.token_ids[mark], row.value, row.start + mark, colours, breaks
            )
        here = made[first:done]
        if None in ends[first:done]:
            before = _join(here, ends[first:done], row, mark, colours, breaks)
        shown.append((Markup("".join(here[:before])), Markup("".join(here[before:]))))
    return shown


def _looked_up(
    activations: Sequence[float | None], colours: Palette
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Where in the tables each activation's opening, digits and share are, and which are not there.

    All at once, as numpy is quick with many.
    """
    values = np.array(activations, np.float64)  # None becomes NaN
    size = np.abs(values)
    usual = (size >= _LEAST) & (size < _MOST)
    size[~usual] = 0
    below = values < 0
    decade = np.searchsorted(_DECADES, size, side="right")
    digits = (size * _FACTORS[decade] + 0.5).astype(np.intp) + 1001 * decade
    offset = below * (_FINE + 1)
    ends = np.where(below, colours.of_min, colours.of_max)
    openings = np.minimum(size * colours.colour, _FINE).astype(np.intp) + offset
    shares = np.minimum(size * ends, _FINE).astype(np.intp) + offset
    return openings.tolist(), digits.tolist(), shares.tolist(), np.flatnonzero(~usual).tolist()


def _join(
    here: list[str],
    ends: Sequence[str | None],
    row: Row,
    mark: int | None,
    colours: Palette,
    breaks: bool,
) -> int:
    """Put right the spans of tokens that hold single bytes: one for each whole character.

    Returns where the span with the mark begins, which may be before the token that is marked.
    """
    before, done = mark or 0, 0
    for i, end in enumerate(ends):
        if end is not None or i < done:
            continue
        last = together(row.tokens, i)
        done = last + 1
        if last > i:
            if mark is not None and i <= mark <= last:
                before = i
            here[i:done] = [_several(row, i, last, mark, colours, breaks), *[""] * (last - i)]
        elif i != mark:
            beginning = _beginning(row.activations[i], colours)
            ending = _ending(row.tokens[i], row.token_ids[i], breaks=breaks)
            here[i] = f"{beginning}{row.start + i}{ending}"
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
    """One row as running text; otherwise as `spans`."""
    row = Row(tokens, token_ids, activations, start, centre, value)
    ((left, right),) = spans([row], colours, breaks=True)
    return left + right


def _beginning(value: float | None, colours: Palette) -> str:
    """A span up to its position, for any activation."""
    return f"{_paint(value, colours)}{_fact(value, colours)}, position "


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


def _mark(
    token: str, token_id: int, value: float, position: int, colours: Palette, breaks: bool
) -> str:
    opening = _as_mark(_paint(value, colours))
    said = _fact(value, colours, exactly=True)
    return f"{opening}{said}, position {position}{_mark_ending(token, token_id, breaks)}"


@lru_cache(maxsize=1 << 12)
def _mark_ending(token: str, token_id: int, breaks: bool) -> str:
    body = _marked_body(_cut(token, BLOCK_CHARACTERS if breaks else LINE_CHARACTERS), breaks)
    return f', id {token_id}: {label(_cut(token, TITLE_CHARACTERS))}">{body}</mark>'


def _several(
    row: Row, first: int, last: int, mark: int | None, colours: Palette, breaks: bool
) -> str:
    """Tokens that only together make up whole characters, as one span that names its parts.

    Its colour is that of the mark, or else of the activation of largest magnitude.
    """
    here = range(first, last + 1)
    values = {i: row.value if i == mark else row.activations[i] for i in here}
    strongest = max((v for v in values.values() if v is not None), key=abs, default=None)
    opening = _paint(row.value if mark in here else strongest, colours)
    text = joined(row.tokens[first : last + 1])
    text = _cut(text, BLOCK_CHARACTERS if breaks else LINE_CHARACTERS)
    parts = "; ".join(
        f"{_fact(values[i], colours, exactly=i == mark)}, position {row.start + i}, "
        f"id {row.token_ids[i]}: {label(_cut(row.tokens[i], TITLE_CHARACTERS))}"
        for i in here
    )
    title = f"{len(here)} tokens together, {parts}"
    if mark in here:
        return f'{_as_mark(opening)}{title}">{_marked_body(text, breaks)}</mark>'
    return f'{opening}{title}">{visible(text, breaks=breaks)}</span>'
