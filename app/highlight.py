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
# takes longer than all else that is done to a token. Below zero comes after above zero, and last
# what is not included.
_OPENINGS = [*_OPEN_POSITIVE, *(f"{opening}−" for opening in _OPEN_NEGATIVE), _OPEN_OUT]
_SHARES = [f"{said}, at " for said in (*_OF_MAX, *_OF_MIN, "")]
_LEAST, _MOST = 1e-4, 99.9
"""Between these an activation's three digits are looked up; few are outside."""
_DECADES = np.array([1e-3, 1e-2, 1e-1, 1.0, 10.0])
_FACTORS = np.array([1e6, 1e5, 1e4, 1e3, 1e2, 1e1])
_DIGITS = [f"{m / factor:#.3g}" for factor in _FACTORS.tolist() for m in range(1001)]
_ZERO, _OUT = len(_DIGITS), len(_DIGITS) + 1
_DIGITS += ["0", "not included"]
_POSITIONS = [str(position) for position in range(2048)]
_PARTS = 5
"""A token's span: opening, digits, share, position, what ends it."""


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
    return f', id {token_id}">{body}</span>'


def extent(tokens: Sequence[str], centre: int) -> tuple[int, int]:
    """First index and end of the tokens that a line aligned on `centre` has room for."""
    before = map(len, tokens[max(0, centre - LINE_TOKENS) : centre][::-1])
    after = map(len, tokens[centre : centre + LINE_TOKENS + 1])
    return (
        centre - _room(LINE_LEFT, before),
        centre + _room(LINE_RIGHT, after),
    )


def _room(characters: int, lengths: Iterable[int]) -> int:
    """How many tokens of these lengths begin within so many characters."""
    taken = 0
    count = 0
    for count, length in enumerate(lengths, 1):
        taken += length
        if taken >= characters:
            return count
    return count


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


def spans(rows: Sequence[Row], colours: Palette, *, breaks: bool = False) -> list[tuple[str, str]]:
    """Each row's tokens as spans, those before the one it is aligned on apart from the rest.

    Without a token to align on all is to the right. Tokens that only together make up whole
    characters share a span. With `breaks`, lines are broken where the text does. A span's title
    names activation, share of the neuron's maximum (of its minimum, below zero), position and id:
    in this order, what repeats along a line stands together, and a page is a tenth smaller.
    All rows of a page are best given at once. The strings are markup. Raises ValueError where
    lengths differ.
    """
    if any(not len(row.tokens) == len(row.token_ids) == len(row.activations) for row in rows):
        raise ValueError("tokens, ids and activations differ in number")
    every = chain.from_iterable
    ends = list(
        map(
            _in_block if breaks else _in_line,
            every(row.tokens for row in rows),
            every(row.token_ids for row in rows),
        )
    )
    values = list(every(row.activations for row in rows))
    openings, digits, shares, unusual = _looked_up(values, colours)
    # All tokens of a page at once, and no step of Python for any one of them.
    parts: list[str] = [""] * (_PARTS * len(values))
    parts[0::_PARTS] = map(_OPENINGS.__getitem__, openings)
    parts[1::_PARTS] = map(_DIGITS.__getitem__, digits)
    parts[2::_PARTS] = map(_SHARES.__getitem__, shares)
    parts[3::_PARTS] = every(_positions(row.start, len(row.tokens)) for row in rows)
    parts[4::_PARTS] = [end or "" for end in ends]
    for i in unusual:
        parts[_PARTS * i : _PARTS * i + 3] = [_beginning(values[i], colours), "", ""]
    shown = []
    done = 0
    for row in rows:
        first, done = done, done + len(row.tokens)
        mark = row.centre if row.centre is not None and 0 <= row.centre < len(row.tokens) else None
        here = parts[_PARTS * first : _PARTS * done]
        if mark is not None:
            marked = _mark(
                row.tokens[mark], row.token_ids[mark], row.value, row.start + mark, colours, breaks
            )
            here[_PARTS * mark : _PARTS * (mark + 1)] = [marked, "", "", "", ""]
        before = _PARTS * (mark or 0)
        if None in ends[first:done]:
            here = ["".join(here[i : i + _PARTS]) for i in range(0, len(here), _PARTS)]
            before = _join(here, ends[first:done], row, mark, colours, breaks)
        shown.append(("".join(here[:before]), "".join(here[before:])))
    return shown


def _positions(start: int, count: int) -> Iterable[str]:
    """Consecutive positions as text."""
    if start + count <= len(_POSITIONS):
        return _POSITIONS[start : start + count]
    return map(str, range(start, start + count))


def _looked_up(
    activations: Sequence[float | None], colours: Palette
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Where in the tables each activation's opening, digits and share are, and which are not there.

    All at once, as numpy is quick with many.
    """
    values = np.array(activations, np.float64)  # None becomes NaN
    size = np.abs(values)
    out, zero = np.isnan(values), values == 0
    usual = (size >= _LEAST) & (size < _MOST)
    size[~usual] = 0
    below = values < 0
    decade = np.searchsorted(_DECADES, size, side="right")
    digits = (size * _FACTORS[decade] + 0.5).astype(np.intp) + 1001 * decade
    offset = below * (_FINE + 1)
    ends = np.where(below, colours.of_min, colours.of_max)
    openings = np.minimum(size * colours.colour, _FINE).astype(np.intp) + offset
    shares = np.minimum(size * ends, _FINE).astype(np.intp) + offset
    digits[zero] = _ZERO
    digits[out], openings[out], shares[out] = _OUT, len(_OPENINGS) - 1, len(_SHARES) - 1
    unusual = np.flatnonzero(~(usual | zero | out)).tolist()
    unusual += [i for i in np.flatnonzero(out).tolist() if activations[i] is not None]
    return openings.tolist(), digits.tolist(), shares.tolist(), unusual


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
    return Markup(left + right)


def _beginning(value: float | None, colours: Palette) -> str:
    """A span up to its position, for any activation."""
    return f"{_paint(value, colours)}{_fact(value, colours)}, at "


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
    if value != value:
        return "not stored"
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
    return f"{opening}{said}, at {position}{_mark_ending(token, token_id, breaks)}"


@lru_cache(maxsize=1 << 12)
def _mark_ending(token: str, token_id: int, breaks: bool) -> str:
    body = _marked_body(_cut(token, BLOCK_CHARACTERS if breaks else LINE_CHARACTERS), breaks)
    return f', id {token_id}">{body}</mark>'


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
        f"{_fact(values[i], colours, exactly=i == mark)}, at {row.start + i}, "
        f"id {row.token_ids[i]}: {label(_cut(row.tokens[i], TITLE_CHARACTERS))}"
        for i in here
    )
    title = f"{len(here)} tokens together, {parts}"
    if mark in here:
        return f'{_as_mark(opening)}{title}">{_marked_body(text, breaks)}</mark>'
    return f'{opening}{title}">{visible(text, breaks=breaks)}</span>'
