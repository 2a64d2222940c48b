"""Pure: numbers → inline SVG. Colours are classes, so that charts follow the theme and the page's
content policy; every number and word is escaped here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from app.numbers import compact, count, number, share

WIDTH = 440.0
LEFT, RIGHT, TOP, BOTTOM = 34.0, 8.0, 12.0, 18.0
"""A histogram's width and the margins inside it, in user units."""
APART = 34.0
"""Labels on an axis are at least so far from each other."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A value that parts a distribution."""

    value: float
    label: str
    """In a few characters; shown where there is room."""
    title: str
    """What is said of the part from here up to the next cut."""


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` round numbers (1, 2 or 5 times a power of ten apart) from low to high."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return []
    span = high - low
    if not math.isfinite(span) or span == 0:
        return []
    base = 10.0 ** math.floor(math.log10(span / most))
    if base == 0:
        return []
    for factor in (1, 2, 5, 10, 20, 50):
        unit = base * factor
        first, last = math.ceil(low / unit - 1e-9), math.floor(high / unit + 1e-9)
        if last - first < most:
            return [i * unit for i in range(first, last + 1)]
    return []


def count_ticks(largest: int, most: int = 4) -> list[int]:
    """At most `most` powers of ten from 1 to the largest count, evenly apart."""
    powers = len(str(max(1, largest))) - 1
    apart = powers // most + 1
    return [10**power for power in range(0, powers + 1, apart)]


def bar(value: float | None, largest: float, css: Literal["", "pos", "neg"] = "") -> Markup:
    """A bar as long as |value| / largest of its box; for the eye only, so hidden from readers."""
    part = 0.0
    if value is not None and math.isfinite(value) and largest > 0:
        part = min(1.0, abs(value) / largest)
    name = f"bar {css}" if css else "bar"
    return Markup(
        f'<svg class="{name}" viewBox="0 0 100 6" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect width="{part * 100:.0f}" height="6"/></svg>'
    )


def bullet(value: float, tick: float | None, *, low: float, high: float) -> Markup:
    """A bar from zero to `value` with a tick, on an axis from `low` to `high` that holds zero.

    For the eye only, as `bar`: what it shows has to stand beside it in numbers.
    """
    width = high - low if high > low else 1.0

    def x(at: float) -> float:
        return min(100.0, max(0.0, (at - low) / width * 100))

    zero, end = x(0.0), x(value)
    css = "neg" if value < 0 else "pos"
    mark = "" if tick is None else f'<path d="M{x(tick):.1f} 0V10"/>'
    return Markup(
        f'<svg class="bullet {css}" viewBox="0 0 100 10" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect x="{min(zero, end):.1f}" y="2" '
        f'width="{abs(end - zero):.1f}" height="6"/>{mark}</svg>'
    )


def describe(edges: Sequence[float], counts: Sequence[int], what: str) -> str:
    """The histogram in one sentence: how many, from where to where, and where most of them are.

    `what` is what was counted, in the plural.
    """
    total = sum(counts)
    if not total:
        return f"No {what} were counted."
    most = max(range(len(counts)), key=lambda i: counts[i])
    above = sum(n for low, n in zip(edges, counts, strict=False) if low >= 0)
    return (
        f"{count(total)} {what} from {number(edges[0])} to {number(edges[-1])}. "
        f"The fullest of {len(counts)} bins, {number(edges[most])} to {number(edges[most + 1])}, "
        f"holds {share(counts[most] / total)}; those at or above 0 hold {share(above / total)}."
    )


def histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    name: str,
    title: str,
    what: str,
    low: float,
    high: float,
    height: float = 130.0,
    log: bool = True,
    cuts: Sequence[Cut] = (),
    ticks: Sequence[float] = (),
    ticks_title: str = "",
) -> Markup:
    """Counts by bin, on a logarithmic or a linear scale.

    `edges` has one more than `counts`; the axis covers both them and `low` to `high`, so that
    charts of one neuron can stand under each other. `cuts`, lowest first, part the ground into
    bands; `ticks` are single values, drawn under the axis. `name` starts the ids, unique in the
    page; `what` was counted.
    """
    first, last = min([low, *edges]), max([high, *edges])
    if last <= first:  # one value only: give the axis some width round it
        pad = abs(first) * 0.5 or 1.0
        first, last = first - pad, last + pad
    right = WIDTH - RIGHT
    foot = height - BOTTOM
    floor = foot - (9.0 if ticks else 0.0)
    scale = (right - LEFT) / (last - first)

    def x(value: float) -> float:
        at = LEFT + (value - first) * scale
        return LEFT if at < LEFT else right if at > right else at

    total, largest = sum(counts), max(counts, default=0)
    y = _heights(largest, floor, log)
    safe = escape(name)
    out = [
        f'<svg class="chart" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-labelledby="{safe}-t {safe}-d"><title id="{safe}-t">{escape(title)}</title>'
        f'<desc id="{safe}-d">{escape(describe(edges, counts, what))}</desc>'
    ]
    out += _bands(cuts, x, right, floor)
    levels = count_ticks(largest, 3) if log else [int(n) for n in nice_ticks(0, largest, 4) if n]
    for n in levels if total else []:
        out.append(f'<path class="grid" d="M{LEFT:.0f} {y(n):.1f}H{right:.0f}"/>')
        out.append(_text(LEFT - 5, y(n) + 3.5, "end", compact(n)))
    out += _bars(edges, counts, total, x, y, floor)
    out.append(f'<path class="axis" d="M{LEFT:.0f} {floor:.1f}H{right:.0f}"/>')
    if first < 0 < last:
        out.append(f'<path class="zero" d="M{x(0):.1f} {TOP:.0f}V{foot:.0f}"/>')
    if ticks:
        d = "".join(f"M{x(value):.1f} {floor + 1:.0f}V{foot:.0f}" for value in ticks)
        out.append(f'<path class="tops" d="{d}"><title>{escape(ticks_title)}</title></path>')
        out.append(f'<path class="axis" d="M{LEFT:.0f} {foot:.0f}H{right:.0f}"/>')
    out += _labels(nice_ticks(first, last), x, foot)
    out.append("</svg>")
    return Markup("".join(out))


def _heights(largest: int, floor: float, log: bool) -> Callable[[int], float]:
    """Where the top of a bar is. A single one is a sliver, never nothing."""
    room = floor - TOP
    if log:
        top = math.log10(largest) if largest > 1 else 1.0
        # The scale starts half a decade below 1.
        return lambda n: floor - (math.log10(n) + 0.3) / (top + 0.3) * room if n else floor
    return lambda n: floor - max(1.5, n / max(1, largest) * room) if n else floor


def _bands(
    cuts: Sequence[Cut], x: Callable[[float], float], right: float, floor: float
) -> list[str]:
    """The ground from each cut on, a shade darker each time, with a line and a label."""
    out: list[str] = []
    ends = [*(x(cut.value) for cut in cuts[1:]), right] if cuts else []
    free = LEFT
    for i, (cut, end) in enumerate(zip(cuts, ends, strict=True)):
        at = x(cut.value)
        said = f"<title>{escape(cut.title)}</title>"
        out.append(
            f'<rect class="band b{min(i, 2)}" x="{at:.1f}" y="{TOP - 10:.0f}" '
            f'width="{max(0.0, end - at):.1f}" height="{floor - TOP + 10:.1f}">{said}</rect>'
        )
        out.append(f'<path class="cut" d="M{at:.1f} {TOP - 10:.0f}V{floor:.1f}"/>')
        wide = 5.2 * len(cut.label) + 6
        if at >= free and at + wide <= right + 6:
            out.append(_text(at + 3, TOP - 1, "start", cut.label))
            free = at + wide
    return out


def _bars(
    edges: Sequence[float],
    counts: Sequence[int],
    total: int,
    x: Callable[[float], float],
    y: Callable[[int], float],
    floor: float,
) -> list[str]:
    """All bars as one shape a sign; over each a column as high as the chart, to point at."""
    shapes: dict[str, list[str]] = {"neg": [], "pos": []}
    columns: list[str] = []
    places, words = [x(edge) for edge in edges], [number(edge) for edge in edges]
    foot, tall = f"{floor:.1f}", f'y="{TOP:.0f}" height="{floor - TOP:.1f}"'
    for i, n in enumerate(counts):
        if not n:
            continue
        start, wide = f"{places[i]:.1f}", f"{max(2.0, places[i + 1] - places[i] - 0.6):.1f}"
        css = "neg" if edges[i] + edges[i + 1] < 0 else "pos"
        shapes[css].append(f"M{start} {foot}V{y(n):.1f}h{wide}V{foot}z")
        part = share(n / total).replace("<", "&lt;").replace(">", "&gt;")
        columns.append(
            f'<rect x="{start}" width="{wide}" {tall}>'
            f"<title>{words[i]} to {words[i + 1]}: {n:,} ({part})</title></rect>"
        )
    drawn = [f'<path class="{css}" d="{"".join(d)}"/>' for css, d in shapes.items() if d]
    return [*drawn, f'<g class="columns">{"".join(columns)}</g>'] if columns else []


def _labels(values: Sequence[float], x: Callable[[float], float], foot: float) -> list[str]:
    out: list[str] = []
    used: list[float] = []
    for value in sorted(values, key=abs):  # zero first: it always has its label
        at = x(value)
        if all(abs(at - other) > APART for other in used):
            used.append(at)
            words = _tick(value)
            reach = 3.2 * len(words)
            anchor = "end" if at + reach > WIDTH else "start" if at - reach < 0 else "middle"
            out.append(f'<path class="axis" d="M{at:.1f} {foot:.0f}v3"/>')
            out.append(_text(at, foot + 13, anchor, words, "" if value else "zero-label"))
    return out


def _text(x: float, y: float, anchor: str, words: str, css: str = "") -> str:
    kind = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(words)}</text>'


def _tick(value: float) -> str:
    """A tick's label: no more digits than it needs."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return compact(value)
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
