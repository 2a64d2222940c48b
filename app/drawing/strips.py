"""The distribution over a layer's neurons as a strip, on an axis that all layers share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.drawing.charts import nice_ticks

WIDTH, HEIGHT = 200.0, 14.0
"""A strip's view box, in SVG user units."""
_PAD = 4.0
"""Room at both ends, so that a mark at an end is not cut off."""
_SKEWED = 20.0
"""The axis is logarithmic if its end is this many times the median of the layers' medians."""
_MIDDLE = 10
"""Index of the median in a list of 21 quantiles: 0, 5%, … 100%."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis from `low` to `high`, linear or logarithmic. Values outside are put at its ends."""

    low: float
    high: float
    log: bool

    def x(self, value: float) -> float:
        """A value's x, in user units."""
        low, high = self.low, self.high
        value = min(high, max(low, value))
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return _PAD + (value - low) / (high - low) * (WIDTH - 2 * _PAD)

    def ticks(self) -> list[float]:
        """A few round values on the axis, ascending."""
        if not self.log:
            return nice_ticks(self.low, self.high, 4)
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        step = max(1, math.ceil((last - first) / 3))
        return [10.0**power for power in range(first, last + 1, step)]


def axis_for(quantiles: Sequence[Sequence[float]], end: float | None = None) -> Axis:
    """The axis for the quantiles of layers (21 each, ascending). It includes 0.

    `end` is a natural end such as 100%, which the axis reaches if a neuron is beyond half of it.

    The axis is logarithmic if outliers would squeeze most neurons into one point of a linear one.
    It then starts at the lowest 5% quantile of a layer, but no more than four powers of ten below
    its end; 0 is put at the start.
    """
    high = max([0.0, *(layer[-1] for layer in quantiles)])
    low = min([0.0, *(layer[0] for layer in quantiles)])
    medians = sorted(layer[_MIDDLE] for layer in quantiles if layer[_MIDDLE] > 0)
    if medians and high > _SKEWED * medians[len(medians) // 2]:
        start = min(layer[1] if layer[1] > 0 else layer[_MIDDLE] for layer in quantiles)
        return Axis(max(start, high / 1e4), high, True)
    if end is not None and high > end / 2:
        high = end
    return Axis(low, high if high > low else low + 1.0, False)


def strip(quantiles: Sequence[float], axis: Axis, words: Callable[[float], str]) -> Markup:
    """One layer: a line over all neurons, bands over the middle 90% and the middle half, and a mark
    at the median. `quantiles`: 21 values, ascending; `words` formats a value."""
    at = [axis.x(value) for value in quantiles]
    middle = HEIGHT / 2

    def band(css: str, first: int, last: int, half: float) -> str:
        width = max(1.0, at[last] - at[first])
        return (
            f'<rect class="{css}" x="{at[first]:.1f}" y="{middle - half:.1f}" '
            f'width="{width:.1f}" height="{2 * half:.1f}"/>'
        )

    description = escape(describe(quantiles, words))
    zero = ""
    if not axis.log and axis.low < 0 < axis.high:
        zero = f'<path class="zero" d="M{axis.x(0):.1f} 0v{HEIGHT:.0f}"/>'
    return Markup(
        f'<svg class="strip" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" '
        f'aria-label="{description}"><title>{description}</title>{zero}'
        f"{band('all', 0, 20, 0.5)}{band('most', 1, 19, 3.0)}{band('half', 5, 15, 5.0)}"
        f'<path class="median" d="M{at[_MIDDLE]:.1f} {middle - 6.5:.1f}v13"/></svg>'
    )


def scale(axis: Axis, words: Callable[[float], str]) -> Markup:
    """The axis with its ticks, to put above the strips."""
    out = ['<svg class="strip axis" viewBox="0 0 200 18" aria-hidden="true">']
    out.append(f'<path d="M{_PAD:.0f} 17.5H{WIDTH - _PAD:.0f}"/>')
    for tick in axis.ticks():
        at = axis.x(tick)
        anchor = "start" if at < 16 else "end" if at > WIDTH - 16 else "middle"
        x = {"start": 0.0, "end": WIDTH}.get(anchor, at)
        out.append(f'<path d="M{at:.1f} 14v4"/>')
        out.append(
            f'<text x="{x:.1f}" y="10.5" text-anchor="{anchor}">{escape(words(tick))}</text>'
        )
    out.append("</svg>")
    return Markup("".join(out))


def describe(quantiles: Sequence[float], words: Callable[[float], str]) -> str:
    """A strip in words."""
    if quantiles[0] == quantiles[-1]:
        return f"all at {words(quantiles[0])}"
    return (
        f"median {words(quantiles[_MIDDLE])}; half from {words(quantiles[5])} to "
        f"{words(quantiles[15])}; all from {words(quantiles[0])} to {words(quantiles[-1])}"
    )
