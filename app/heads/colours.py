"""The colours of attention and of scores: classes of the style sheet."""

from __future__ import annotations

import math

STEPS = 10
"""Colours of attention, and of scores in the picture."""


def colour(value: float, low: float, high: float) -> str:
    """The class of a value: `p1` to `p10` above 0, `n1` to `n10` below, empty near 0."""
    largest = max(abs(low), abs(high))
    steps = min(STEPS, math.ceil(abs(value) / largest * STEPS - 0.5)) if largest else 0
    return f"{'p' if value > 0 else 'n'}{steps}" if steps > 0 else ""
