"""The colour legend of a neuron's page."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

from app.drawing import tokens as highlight
from app.drawing.numbers import number


class Swatch(NamedTuple):
    """One step of the legend."""

    css: str
    title: str


@dataclass(frozen=True, slots=True)
class Legend:
    """The page's one colour scale, from the most negative step to the most positive."""

    low: str
    high: str
    swatches: list[Swatch]
    ramp: Markup
    """The swatches beside each other."""
    words: str
    """What the steps stand for, for who cannot point at them."""


def legend(scale: float) -> Legend | None:
    """The steps of a colour scale with the activations each stands for; None without a scale."""
    if scale <= 0:
        return None
    unit = scale / highlight.STEPS
    tenths = range(-highlight.STEPS, highlight.STEPS + 1)
    inner = [number((tenth + 0.5) * unit) for tenth in tenths[:-1]]
    edges = pairwise([number(-scale), *inner, number(scale)])
    swatches = [
        Swatch(highlight.step(tenth * unit, scale), f"{low} to {high}")
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
