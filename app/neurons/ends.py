"""Which ends of a neuron's activations its page shows first: the top, or the top and the bottom."""

from __future__ import annotations

from collections.abc import Sequence

from app.drawing.numbers import count, number
from app.examples.schemas import Example
from app.neurons.schemas import NeuronPage
from app.reading.statistics import FLOOR

_STRONG = 0.5
"""A minimum is worth as much attention as the maximum from this share of its magnitude on: in gated
MLPs the strongest activations of a neuron are often negative."""


def both_ends(page: NeuronPage) -> bool:
    """Whether the bottom examples say as much as the top ones: where the set's units may have
    either sign, or where this neuron's minimum is large and not the nonlinearity's own."""
    if page.run.units.two_sided:
        return True
    stats = page.stats
    strong = stats.min < 0 and -stats.min >= _STRONG * max(stats.max, 0.0)
    return strong and len(page.examples.bottom) > 1 and not floor(page.examples.bottom)


def floor(bottom: Sequence[Example]) -> str:
    """A sentence if all troughs are at the nonlinearity's own minimum; else empty."""
    troughs = [example.trough for example in bottom]
    if len(troughs) < 2 or max(troughs) - min(troughs) > FLOOR * abs(min(troughs)):
        return ""
    return f"{count(len(troughs))} contexts tie at the activation's minimum, {number(min(troughs))}"
