"""The colour legend of a neuron's page."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

from app.drawing.numbers import number
from app.drawing.palette import STEPS, step


class Swatch(NamedTuple):
    """A colour step."""

    css: str
    title: str


@dataclass(frozen=True, slots=True)
class Legend:
    """The page's colour scale, from the most negative to the most positive step."""

    low: str
    high: str
    swatches: list[Swatch]
    ramp: Markup
    """The swatches as markup, side by side."""
    words: str
    """The steps in words, for readers who cannot hover."""


def legend(scale: float, low: float | None = None, high: float | None = None) -> Legend | None:
    """The steps of a colour scale that ends at ±`scale`, from the step of `low` to that of `high`
    (default: all steps), each with the activations it stands for; None without a scale."""
    if scale <= 0:
        return None
    unit = scale / STEPS
    first = -STEPS if low is None else _tenth(min(low, 0.0), scale)
    last = STEPS if high is None else _tenth(max(high, 0.0), scale)
    tenths = range(first, last + 1)
    ends = (-scale if low is None else low, scale if high is None else high)
    inner = [number((tenth + 0.5) * unit) for tenth in tenths[:-1]]
    edges = pairwise([number(min(ends[0], 0.0)), *inner, number(max(ends[1], 0.0))])
    swatches = [
        Swatch(step(tenth * unit, scale), f"{start} to {end}")
        for tenth, (start, end) in zip(tenths, edges, strict=True)
    ]
    ramp = "".join(
        f'<i class="{swatch.css or "zero"}" title="{swatch.title}"></i>' for swatch in swatches
    )
    return Legend(
        number(ends[0]), number(ends[1]), swatches, Markup(ramp), _in_words(scale, first, last)
    )


def _in_words(scale: float, first: int, last: int) -> str:
    """The steps from `first` to `last`, −10 to 10."""
    unit = scale / STEPS
    sides = [(last, "above", scale), (-first, "below", -scale)]
    steps = " and ".join(f"{steps} {side} zero" for steps, side, _ in sides if steps)
    ends = [
        f"{side} zero is half as wide and ends at {number(end)}"
        for steps, side, end in sides
        if steps == STEPS
    ]
    words = f"Activations within {number(unit / 2)} of zero have no colour."
    if steps:
        words += f" Steps of colour: {steps}, each {number(unit)} wide"
        words += "".join(f"; the last {end}" for end in ends) + "."
    return words


def _tenth(value: float, scale: float) -> int:
    """The step of a value, −10 to 10; 0 has no colour."""
    css = step(value, scale)
    return 0 if not css else int(css[1:]) * (1 if css[0] == "p" else -1)
