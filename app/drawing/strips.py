"""Pure: quantiles over a layer's neurons → a strip, on an axis that all layers share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.drawing.charts import nice_ticks

WIDTH, HEIGHT = 200.0, 14.0
"""A strip's view box, in user units."""
_PAD = 4.0
"""Room at both ends, so that a mark at the end is seen whole."""
_SKEWED = 20.0
"""The axis is logarithmic where its end is so many times as far as the layers' middle median."""
_MIDDLE = 10
"""Where the median is in a list of 21 quantiles: 0, 5%, … 100%."""


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`; on a logarithmic one all that is below `low` stands at `low`."""

    low: float
    high: float
    log: bool

    def x(self, value: float) -> float:
        """A value's place, in user units."""
        low, high = self.low, self.high
        value = min(high, max(low, value))
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return _PAD + (value - low) / (high - low) * (WIDTH - 2 * _PAD)

    def ticks(self) -> list[float]:
        """A few round values on it, lowest first."""
        if not self.log:
            return nice_ticks(self.low, self.high, 4)
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        apart = max(1, math.ceil((last - first) / 3))
        return [10.0**power for power in range(first, last + 1, apart)]


def axis_for(quantiles: Sequence[Sequence[float]], whole: float | None = None) -> Axis:
    """The axis for these layers' quantiles (each 21, ascending), with 0 on it.

    `whole` is a natural end, such as 100%: the axis reaches it where neurons come half as far.
    It is logarithmic where few neurons reach so far that on a plain one most would share a point.
    Then it begins where the lowest layer's 5% is, at most four powers of ten from its end, and 0
    stands at that beginning.
    """
    high = max([0.0, *(layer[-1] for layer in quantiles)])
    low = min([0.0, *(layer[0] for layer in quantiles)])
    medians = sorted(layer[_MIDDLE] for layer in quantiles if layer[_MIDDLE] > 0)
    if medians and high > _SKEWED * medians[len(medians) // 2]:
        begin = min(layer[1] if layer[1] > 0 else layer[_MIDDLE] for layer in quantiles)
        return Axis(max(begin, high / 1e4), high, True)
    if whole is not None and high > whole / 2:
        high = whole
    return Axis(low, high if high > low else low + 1.0, False)


def strip(quantiles: Sequence[float], axis: Axis, words: Callable[[float], str]) -> Markup:
    """One layer: a line over all neurons, a band over the middle 90%, one over the middle half, a
    mark at the median. `quantiles` are 21; `words` writes a value."""
    at = [axis.x(value) for value in quantiles]
    middle = HEIGHT / 2

    def band(css: str, first: int, last: int, half: float) -> str:
        width = max(1.0, at[last] - at[first])
        return (
            f'<rect class="{css}" x="{at[first]:.1f}" y="{middle - half:.1f}" '
            f'width="{width:.1f}" height="{2 * half:.1f}"/>'
        )

    said = escape(describe(quantiles, words))
    zero = ""
    if not axis.log and axis.low < 0 < axis.high:
        zero = f'<path class="zero" d="M{axis.x(0):.1f} 0v{HEIGHT:.0f}"/>'
    return Markup(
        f'<svg class="strip" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" '
        f'aria-label="{said}"><title>{said}</title>{zero}'
        f"{band('all', 0, 20, 0.5)}{band('most', 1, 19, 3.0)}{band('half', 5, 15, 5.0)}"
        f'<path class="median" d="M{at[_MIDDLE]:.1f} {middle - 6.5:.1f}v13"/></svg>'
    )


def scale(axis: Axis, words: Callable[[float], str]) -> Markup:
    """The axis itself with its ticks, to stand above the strips."""
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
