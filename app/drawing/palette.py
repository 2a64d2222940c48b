"""Pure: activations → the colour and the words of their tokens, each looked up in a table.

Formatting a number takes longer than all else that is done to a token, and a page has thousands:
apart from `highlight`, which knows tokens, their text and their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from app.drawing.numbers import exact, number

STEPS = 10
"""Steps of colour on either side of zero."""
NOT_INCLUDED = "x"
"""Class of a token at a position that is not included (BOS): it has no activation."""

_FINE = 20 * STEPS
"""Parts of the scale that are told apart: half a percent each, so that whole percents and whole
steps both begin at one."""


def _opening(css: str) -> str:
    return f'<span class="{css}" title="' if css else '<span title="'


def _step_of(part: int) -> int:
    return (part + STEPS) // (2 * STEPS)


OPEN_ZERO = _opening("")
"""The opening of a token without colour."""
_OPEN_OUT = _opening(NOT_INCLUDED)
_OPEN_POSITIVE, _OPEN_NEGATIVE = (
    [_opening(f"{sign}{_step_of(part)}" if _step_of(part) else "") for part in range(_FINE + 1)]
    for sign in "pn"
)
_OF_MAX, _OF_MIN = (
    [f", {(part + 1) // 2}% of {end}" for part in range(_FINE + 1)] for end in ("max", "min")
)

# What a span's title says up to its position, in three parts, each looked up. Below zero comes
# after above zero, and last what is not included. Arrays of Python's strings: many are looked up
# at once.
OPENINGS = np.array(
    [*_OPEN_POSITIVE, *(f"{opening}−" for opening in _OPEN_NEGATIVE), _OPEN_OUT], object
)
SHARES = np.array([f"{said}, at " for said in (*_OF_MAX, *_OF_MIN, "")], object)
BRIEF_OPENINGS = np.array([opening.replace(OPEN_ZERO, "<!--") for opening in OPENINGS], object)
"""In brief a token without colour has no span, but before it a comment that says the same."""
IS_BRIEF = np.array([opening.startswith("<!--") for opening in BRIEF_OPENINGS])
"""Which of the openings begin a comment."""
_LEAST, _MOST = 1e-4, 99.9
"""Between these an activation's three digits are looked up; few are outside."""
_DECADES = np.array([1e-3, 1e-2, 1e-1, 1.0, 10.0])
_FACTORS = np.array([1e6, 1e5, 1e4, 1e3, 1e2, 1e1])
_MADE = [f"{m / factor:#.3g}" for factor in _FACTORS.tolist() for m in range(1001)]
_ZERO, _OUT = len(_MADE), len(_MADE) + 1
DIGITS = np.array([*_MADE, "0", "not included"], object)


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


class LookedUp(NamedTuple):
    """Where in the tables each of many activations is."""

    openings: np.ndarray[Any, np.dtype[np.intp]]
    digits: np.ndarray[Any, np.dtype[np.intp]]
    shares: np.ndarray[Any, np.dtype[np.intp]]
    unusual: list[int]
    """Those whose digits are in no table, and so are to be made: by `beginning`."""


def looked_up(activations: Sequence[float | None], colours: Palette) -> LookedUp:
    """The places of all activations at once, as numpy is quick with many."""
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
    digits[out], openings[out], shares[out] = _OUT, len(OPENINGS) - 1, len(SHARES) - 1
    unusual = np.flatnonzero(~(usual | zero | out)).tolist()
    unusual += [i for i in np.flatnonzero(out).tolist() if activations[i] is not None]
    return LookedUp(openings, digits, shares, unusual)


def _parts(value: float, per_unit: float) -> int:
    scaled = abs(value * per_unit)
    return min(_FINE, int(scaled)) if math.isfinite(scaled) else 0


def paint(value: float | None, colours: Palette) -> str:
    """The opening of a span, up to its title, for any activation."""
    if value is None:
        return _OPEN_OUT
    return (_OPEN_POSITIVE if value > 0 else _OPEN_NEGATIVE)[_parts(value, colours.colour)]


def said(value: float | None) -> str:
    """An activation in words."""
    if value is None:
        return "not included"
    return "not stored" if value != value else number(value)


def fact(value: float | None, colours: Palette, *, exactly: bool = False) -> str:
    """An activation in words, with its share of the neuron's maximum or minimum."""
    if value is None or value != value:
        return said(value)
    shown = f"{exact(value)} exactly" if exactly else number(value)
    if value < 0:
        return f"{shown}{_OF_MIN[_parts(value, colours.of_min)]}"
    return f"{shown}{_OF_MAX[_parts(value, colours.of_max)]}"


def beginning(value: float | None, colours: Palette) -> str:
    """A span up to its position, for any activation."""
    return f"{paint(value, colours)}{fact(value, colours)}, at "


def brief_beginning(value: float | None, colours: Palette) -> str:
    """A span or comment up to its token's id, for any activation."""
    return f"{paint(value, colours).replace(OPEN_ZERO, '<!--')}{said(value)}"
