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


def legend(scale: float) -> Legend | None:
    """The colour steps with the range of activations of each; None if `scale` is 0.

    `scale` is the magnitude of the last step."""
    if scale <= 0:
        return None
    unit = scale / STEPS
    tenths = range(-STEPS, STEPS + 1)
    inner = [number((tenth + 0.5) * unit) for tenth in tenths[:-1]]
    edges = pairwise([number(-scale), *inner, number(scale)])
    swatches = [
        Swatch(step(tenth * unit, scale), f"{low} to {high}")
        for tenth, (low, high) in zip(tenths, edges, strict=True)
    ]
    words = (
        f"An activation within {number(unit / 2)} of zero has no colour. From there on there are "
        f"ten steps on either side, each {number(unit)} wide but the last, half as wide, which "
        f"ends at {number(scale)}."
    )
    ramp = "".join(
        f'<i class="{swatch.css or "zero"}" title="{swatch.title}"></i>' for swatch in swatches
    )
    return Legend(number(-scale), number(scale), swatches, Markup(ramp), words)
