"""The colours and titles of activations, looked up in tables.

A page has thousands of activations, and formatting each number would take most of its time.
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
"""Class of a token without an activation, at a position that is not included (BOS)."""

_FINE = 20 * STEPS
"""Parts of the scale, half a percent each: rounded percents and colour steps begin at a part."""


def _opening(css: str) -> str:
    return f'<span class="{css}" title="' if css else '<span title="'


def _step_of(part: int) -> int:
    return (part + STEPS) // (2 * STEPS)


OPEN_ZERO = _opening("")
"""The opening of a span without colour."""
_OPEN_NOT_INCLUDED = _opening(NOT_INCLUDED)
_OPEN_POSITIVE, _OPEN_NEGATIVE = (
    [_opening(f"{sign}{_step_of(part)}" if _step_of(part) else "") for part in range(_FINE + 1)]
    for sign in "pn"
)
_OF_MAX, _OF_MIN = (
    [f", {(part + 1) // 2}% of {end}" for part in range(_FINE + 1)] for end in ("max", "min")
)

# A span up to its position has three parts: opening, digits, share. In the arrays the strings for
# negative activations come after those for positive ones, and "not included" comes last.
OPENINGS = np.array(
    [*_OPEN_POSITIVE, *(f"{opening}−" for opening in _OPEN_NEGATIVE), _OPEN_NOT_INCLUDED], object
)
SHARES = np.array([f"{share}, at " for share in (*_OF_MAX, *_OF_MIN, "")], object)
BRIEF_OPENINGS = np.array([opening.replace(OPEN_ZERO, "<!--") for opening in OPENINGS], object)
"""In brief markup a token without colour has a comment instead of a span."""
IS_BRIEF = np.array([opening.startswith("<!--") for opening in BRIEF_OPENINGS])
"""Which of the openings begin a comment."""
_LEAST, _MOST = 1e-4, 99.9
"""Between these, an activation's three digits are in the table."""
_DECADES = np.array([1e-3, 1e-2, 1e-1, 1.0, 10.0])
_FACTORS = np.array([1e6, 1e5, 1e4, 1e3, 1e2, 1e1])
_FORMATTED = [f"{m / factor:#.3g}" for factor in _FACTORS.tolist() for m in range(1001)]
_ZERO, _NO_DIGITS = len(_FORMATTED), len(_FORMATTED) + 1
DIGITS = np.array([*_FORMATTED, "0", "not included"], object)


@dataclass(frozen=True, slots=True)
class Palette:
    """The colour scale of a page and the range of its neuron."""

    colour: float
    """Parts of the colour scale per unit of activation, on both sides of zero."""
    of_max: float
    of_min: float
    """Parts of the neuron's maximum, and of its minimum, per unit of activation; 0 without one."""


def palette(scale: float, *, low: float, high: float) -> Palette:
    """The palette of a neuron with this range; `scale` is the magnitude of the last colour step."""

    def parts(end: float) -> float:
        return _FINE / end if math.isfinite(end) and end > 1e-30 else 0.0

    return Palette(parts(scale), parts(high), parts(-low))


def step(value: float | None, scale: float) -> str:
    """The colour class of an activation: `p` or `n` and its tenths of `scale`, rounded; `""` for 0.

    `scale` is the largest magnitude on the page, so that a colour means the same everywhere on it.
    """
    if value is None:
        return NOT_INCLUDED
    if scale <= 0 or value != value:
        return ""
    tenths = min(STEPS, int(abs(value) / scale * STEPS + 0.5))
    return f"{'p' if value > 0 else 'n'}{tenths}" if tenths else ""


class Places(NamedTuple):
    """The index of each activation in the tables."""

    openings: np.ndarray[Any, np.dtype[np.intp]]
    digits: np.ndarray[Any, np.dtype[np.intp]]
    shares: np.ndarray[Any, np.dtype[np.intp]]
    unusual: list[int]
    """Activations whose digits are not in the table: `beginning` formats them."""


def look_up(activations: Sequence[float | None], colours: Palette) -> Places:
    """The places of many activations in the tables."""
    values = np.array(activations, np.float64)  # None becomes NaN
    size = np.abs(values)
    missing, zero = np.isnan(values), values == 0
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
    digits[missing] = _NO_DIGITS
    openings[missing], shares[missing] = len(OPENINGS) - 1, len(SHARES) - 1
    unusual = np.flatnonzero(~(usual | zero | missing)).tolist()
    unusual += [i for i in np.flatnonzero(missing).tolist() if activations[i] is not None]
    return Places(openings, digits, shares, unusual)


def _parts(value: float, per_unit: float) -> int:
    scaled = abs(value * per_unit)
    return min(_FINE, int(scaled)) if math.isfinite(scaled) else 0


def paint(value: float | None, colours: Palette) -> str:
    """A span up to its title, for any activation."""
    if value is None:
        return _OPEN_NOT_INCLUDED
    return (_OPEN_POSITIVE if value > 0 else _OPEN_NEGATIVE)[_parts(value, colours.colour)]


def in_words(value: float | None) -> str:
    """An activation in words."""
    if value is None:
        return "not included"
    return "not stored" if value != value else number(value)


def fact(value: float | None, colours: Palette, *, exactly: bool = False) -> str:
    """An activation in words, with its share of the neuron's maximum or minimum."""
    if value is None or value != value:
        return in_words(value)
    text = f"{exact(value)} exactly" if exactly else number(value)
    if value < 0:
        return f"{text}{_OF_MIN[_parts(value, colours.of_min)]}"
    return f"{text}{_OF_MAX[_parts(value, colours.of_max)]}"


def beginning(value: float | None, colours: Palette) -> str:
    """A span up to its position, for any activation."""
    return f"{paint(value, colours)}{fact(value, colours)}, at "


def brief_beginning(value: float | None, colours: Palette) -> str:
    """A span or comment up to its token's id, for any activation."""
    return f"{paint(value, colours).replace(OPEN_ZERO, '<!--')}{in_words(value)}"
