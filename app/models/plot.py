"""Draws a layer's neurons as a scatter plot of two statistics, as inline SVG: each dot is a link.

Dots are coloured by the main source of a neuron's top examples, and the outliers carry the token
they peak on. Without a mouse, the table beside the plot has the same neurons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.drawing.characters import PIECE_IN_PICTURE, is_piece, label
from app.drawing.charts import axis_text, nice_ticks, tick_label
from app.drawing.numbers import count, share
from app.models.schemas import LayerDot, LayerScatter
from app.reading.statistics import STATISTICS

WIDTH, HEIGHT = 440.0, 360.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 18.0, 36.0
SOURCES = 8
"""Sources with a colour of their own; the others share one more."""
MANY_DECADES = 30.0
"""A statistic of positive values goes on a log scale from this ratio of its ends on."""
EDGE = 0.06
"""The part of a log scale, at its low end, that is for values of 0."""
LEAST_SHARE = 1e-4
"""The low end of a log scale for shares that are all 0."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: from values to user units."""

    low: float
    high: float
    log: bool
    heavy: bool = False
    """Whether the scale is that of asinh: linear near zero, logarithmic far from it."""
    zero: bool = False
    """Whether a log scale has 0 at its low end, apart from the rest."""

    def share(self, value: float) -> float:
        """Where a value is between the ends, from 0 to 1."""
        if self.zero and value <= 0:
            return EDGE / 3
        part = (self._scaled(value) - self._scaled(self.low)) / (
            self._scaled(self.high) - self._scaled(self.low)
        )
        return EDGE + (1 - EDGE) * part if self.zero else part

    def ticks(self) -> list[float]:
        """Round values to label."""
        if self.heavy:
            powers = [10.0**power for power in range(9)]
            marks = [*(-value for value in powers[::-1]), 0.0, *powers]
            return [value for value in marks if self.low <= value <= self.high]
        if not self.log:
            return nice_ticks(self.low, self.high, 5)
        return [0.0, *self._powers()] if self.zero else self._powers()

    def _powers(self) -> list[float]:
        """Powers of ten between the ends; with twice and five times them, or all round numbers, if
        there are few."""
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        if last - first >= 2:
            return [10.0**power for power in range(first, last + 1, (last - first + 4) // 5)]
        marks = [
            factor * 10.0**power for power in range(first - 1, last + 1) for factor in (1, 2, 5)
        ]
        found = [mark for mark in marks if self.low <= mark <= self.high]
        return found if len(found) > 2 else nice_ticks(self.low, self.high, 5)

    def _scaled(self, value: float) -> float:
        if self.heavy:
            return math.asinh(value)
        return math.log10(value) if self.log else value


def axis(stat: str, values: Sequence[float]) -> Axis:
    """The axis for some values of a statistic, with a margin: on a log scale if it is a share, or
    if all are positive and their ends lie far apart; on that of asinh if some are not, and few are
    far from the others."""
    if STATISTICS[stat].is_share:
        above = [value for value in values if value > 0] or [LEAST_SHARE]
        return Axis(min(above) / 1.15, max(above) * 1.15, True, zero=min(values) <= 0)
    low, high = min(values), max(values)
    if low > 0 and high / low >= MANY_DECADES:
        return Axis(low / 1.15, high * 1.15, True)
    middle = sorted(map(abs, values))[len(values) // 2]
    if low <= 0 and high > 10 and high >= MANY_DECADES * middle / 3:
        return Axis(low - 0.1 * abs(low) - 0.05, high * 1.15, False, heavy=True)
    pad = (high - low) * 0.04 or abs(low) * 0.5 or 1.0
    return Axis(low - pad, high + pad, False)


def draw(page: LayerScatter, address: tuple[str, str]) -> Markup:
    """The plot; empty without neurons that have both values. `address`: the parts before and after
    a neuron's index in its address."""
    dots = [dot for dot in page.dots if dot.x is not None and dot.y is not None]
    if not dots:
        return Markup()
    across = axis(page.x, [dot.x for dot in dots if dot.x is not None])
    up = axis(page.y, [dot.y for dot in dots if dot.y is not None])
    right, foot = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(value: float) -> float:
        return LEFT + across.share(value) * (right - LEFT)

    def y(value: float) -> float:
        return foot - up.share(value) * (foot - TOP)

    x_name, y_name = STATISTICS[page.x].label, STATISTICS[page.y].label
    out = [f'<svg class="chart plot" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" aria-hidden="true">']
    for value in up.ticks():
        out.append(f'<path class="grid" d="M{LEFT:.0f} {y(value):.1f}H{right:.0f}"/>')
        out.append(axis_text(LEFT - 5, y(value) + 3.5, "end", _tick(page.y, value)))
    out.append(f'<path class="axis" d="M{LEFT:.0f} {foot:.0f}H{right:.0f}"/>')
    for value in across.ticks():
        out.append(f'<path class="axis" d="M{x(value):.1f} {foot:.0f}v4"/>')
        out.append(axis_text(x(value), foot + 15, "middle", _tick(page.x, value)))
    out.append(axis_text(right, HEIGHT - 4, "end", f"{x_name}{_scale(across)} →"))
    out.append(axis_text(4, 10, "start", f"↑ {y_name}{_scale(up)}"))
    spell_x, spell_y = STATISTICS[page.x].text, STATISTICS[page.y].text
    before, after = map(escape, address)
    by_source: dict[int, list[str]] = {}
    for dot in dots:
        assert dot.x is not None
        assert dot.y is not None
        by_source.setdefault(colour(dot.source), []).append(
            f'<a href="{before}{dot.neuron}{after}" tabindex="-1"><title>{dot.neuron} · '
            f"{escape(f'“{dot.name}” · ') if dot.name else ''}{label(dot.peak_token)} · "
            f"{x_name} {spell_x(dot.x)}, {y_name} {spell_y(dot.y)}"
            f'</title><path d="M{x(dot.x):.1f} {y(dot.y):.1f}h0"/></a>'
        )
    for source, links in sorted(by_source.items()):
        out.append(f'<g class="dots l{source}">{"".join(links)}</g>')
    by_neuron = {dot.neuron: dot for dot in dots}
    taken: list[tuple[float, float]] = []
    for neuron in page.outliers:
        dot = by_neuron[neuron]
        assert dot.x is not None
        assert dot.y is not None
        at_x, at_y = x(dot.x), y(dot.y)
        # A label that would cover another is left out: its dot says the token when pointed at.
        if any(abs(at_x - a) < 70 and abs(at_y - b) < 11 for a, b in taken):
            continue
        taken.append((at_x, at_y))
        end = at_x > WIDTH / 2
        words = Markup(label(dot.peak_token[:18]))
        if is_piece(dot.peak_token):
            words = PIECE_IN_PICTURE + words
        out.append(axis_text(at_x + (-6 if end else 6), at_y + 3, "end" if end else "start", words))
    out.append("</svg>")
    return Markup("".join(out))


def _scale(along: Axis) -> str:
    return ", log scale" if along.log else ", asinh scale" if along.heavy else ""


def outliers(dots: Sequence[LayerDot], axes: tuple[str, str], most: int) -> list[int]:
    """The neurons farthest from the median on both axes together, in the plot's own scales and in
    units of each axis's median distance: at most `most`, farthest first."""
    known = [(dot.neuron, dot.x, dot.y) for dot in dots if dot.x is not None and dot.y is not None]
    if len(known) < 2:
        return []
    far = [0.0] * len(known)
    for stat, values in zip(
        axes, ([x for _, x, _ in known], [y for _, _, y in known]), strict=True
    ):
        scale = axis(stat, values)
        shares = [scale.share(value) for value in values]
        median = sorted(shares)[len(shares) // 2]
        away = [abs(share - median) for share in shares]
        usual = sorted(away)[len(away) // 2] or 1.0
        far = [sum_ + (one / usual) ** 2 for sum_, one in zip(far, away, strict=True)]
    ranked = sorted(zip(far, known, strict=True), key=lambda entry: (-entry[0], entry[1][0]))
    return [neuron for _, (neuron, _, _) in ranked[:most]]


def colour(source: int | None) -> int:
    """The colour of a source: those from the ninth on, and neurons without one, share the last."""
    return SOURCES if source is None else min(source, SOURCES)


def describe(page: LayerScatter, noun: str) -> str:
    """The plot in a sentence or two, for those who cannot see it."""
    known = [dot for dot in page.dots if dot.x is not None and dot.y is not None]
    x_name, y_name = STATISTICS[page.x].label, STATISTICS[page.y].label
    text = f"{y_name.capitalize()} against {x_name} of {count(len(known))} live {noun}s."
    if page.n_dead:
        dead = f"dead {noun} is" if page.n_dead == 1 else f"dead {noun}s are"
        text += f" {count(page.n_dead)} {dead} left out."
    return text


def keys(page: LayerScatter) -> list[tuple[int, str]]:
    """The colours in the plot, each with the name of its source."""
    seen = {colour(dot.source) for dot in page.dots if dot.x is not None and dot.y is not None}
    names = dict(enumerate(name or "without a source" for name in page.sources[:SOURCES]))
    return [(one, names.get(one, "other or no main source")) for one in sorted(seen)]


def _tick(stat: str, value: float) -> str:
    return share(value).replace(".0%", "%") if STATISTICS[stat].is_share else tick_label(value)
