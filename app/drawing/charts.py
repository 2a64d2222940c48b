"""Charts as inline SVG. Colours are classes, because of themes and the pages' content security
policy; all text is escaped here."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from markupsafe import Markup, escape

from app.drawing.numbers import compact, count, number, numbers, share

WIDTH = 440.0
LEFT, RIGHT, TOP, BOTTOM = 34.0, 8.0, 15.0, 31.0
"""A histogram's width and the margins inside it, in SVG user units: room for the axes' titles."""
CUT_LABELS = 14.0
"""Room for the labels of cuts, above the bars."""
LABEL_DISTANCE = 34.0
"""The least distance between two labels on an axis, in user units."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of what a histogram counts, drawn as a layer of its bars."""

    name: str
    counts: Sequence[int]
    """In the histogram's bins."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A value at which a band of a distribution begins."""

    value: float
    label: str
    """A few characters, shown if there is room."""
    title: str
    """Describes the band from this cut to the next."""


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` round numbers from low to high, 1, 2 or 5 times a power of ten apart."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return []
    each = (high - low) / most
    if not math.isfinite(each) or each < sys.float_info.min:  # subnormal: no power of ten below it
        return []
    base = 10.0 ** math.floor(math.log10(each))
    for factor in (1, 2, 5, 10, 20, 50):
        unit = base * factor
        first, last = math.ceil(low / unit - 1e-9), math.floor(high / unit + 1e-9)
        if last - first < most:
            return [i * unit for i in range(first, last + 1)]
    return []


def count_ticks(largest: int, most: int = 4) -> list[int]:
    """At most `most` powers of ten from 1 to the largest count, evenly spaced."""
    powers = len(str(max(1, largest))) - 1
    return [10**power for power in range(0, powers + 1, powers // most + 1)]


def bar(value: float | None, largest: float, css: Literal["", "pos", "neg"] = "") -> Markup:
    """A bar over |value| / largest of its box. Screen readers skip it: the number is beside it."""
    part = 0.0
    if value is not None and math.isfinite(value) and largest > 0:
        part = min(1.0, abs(value) / largest)
    return _bar(round(part * 100), css)


@cache
def _bar(percent: int, css: str) -> Markup:
    name = f"bar {css}" if css else "bar"
    return Markup(
        f'<svg class="{name}" viewBox="0 0 100 6" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect width="{percent}" height="6"/></svg>'
    )


def bullet(value: float, tick: float | None, *, low: float, high: float) -> Markup:
    """A bar from zero to `value` with a tick, on an axis from `low` to `high` that includes zero.

    Hidden from screen readers, as `bar`: its numbers must be beside it.
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
    """A histogram in words. `what` was counted, in the plural."""
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
    axis: str,
    low: float,
    high: float,
    height: float = 130.0,
    log: bool = True,
    cuts: Sequence[Cut] = (),
    parts: Sequence[Part] = (),
    ticks: Sequence[float] = (),
    ticks_title: str = "",
) -> Markup:
    """A histogram on a logarithmic or linear scale, with bins of equal width.

    `edges` has one more value than `counts`. The axis covers the edges and `low` to `high`, so that
    two charts of a neuron can share it. `cuts`, lowest first, divide the background into bands;
    `ticks` are single values, drawn below the axis. `parts` divide the bars into layers, the first
    at the bottom, on a linear scale; `keys` names their colours. `axis` is the title of the
    horizontal axis, `what` of the other. `name` is a prefix for ids, unique on the page;
    charts.js shows a bin's contents from the list that `bins` makes for `name`.
    """
    first, last = min([low, *edges]), max([high, *edges])
    if last <= first:  # a single value: give the axis some width
        pad = abs(first) * 0.5 or 1.0
        first, last = first - pad, last + pad
    right = WIDTH - RIGHT
    top, foot = TOP + (CUT_LABELS if cuts else 0.0), height - BOTTOM
    floor = foot - (9.0 if ticks else 0.0)
    scale = (right - LEFT) / (last - first)

    def x(value: float) -> float:
        at = LEFT + (value - first) * scale
        return LEFT if at < LEFT else right if at > right else at

    total, largest = sum(counts), max(counts, default=0)
    y = _heights(largest, top, floor, log)
    safe = escape(name)
    # Where the bins are, for charts.js: left edge of the first, width of each, top and bottom.
    start, end = x(edges[0]), x(edges[-1])
    places = f"{start:.1f} {(end - start) / len(counts):.3f} {top:.0f} {floor:.1f}"
    out = [
        f'<svg class="chart" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-labelledby="{safe}-t {safe}-d" data-bins="{places}"><title id="{safe}-t">'
        f'{escape(title)}</title><desc id="{safe}-d">{escape(describe(edges, counts, what))}</desc>'
    ]
    out.append(axis_text(0, 9, "start", f"↑ {what}{', log scale' if log else ''}"))
    out.append(axis_text(right, height - 3, "end", f"{axis} →"))
    out += _bands(cuts, x, right, top, floor)
    levels = count_ticks(largest, 3) if log else [int(n) for n in nice_ticks(0, largest, 4) if n]
    for n in levels if total else []:
        out.append(f'<path class="grid" d="M{LEFT:.0f} {y(n):.1f}H{right:.0f}"/>')
        out.append(axis_text(LEFT - 5, y(n) + 3.5, "end", compact(n)))
    if parts:
        out += _layers(edges, counts, parts, x, y, floor)
    else:
        out += _bars(edges, counts, x, y, floor)
    out.append(f'<path class="axis" d="M{LEFT:.0f} {floor:.1f}H{right:.0f}"/>')
    if first < 0 < last:
        out.append(f'<path class="zero" d="M{x(0):.1f} {top:.0f}V{foot:.0f}"/>')
    if ticks:
        d = "".join([f"M{x(value):.1f} {floor + 1:.0f}V{foot:.0f}" for value in ticks])
        out.append(f'<path class="tops" d="{d}"><title>{escape(ticks_title)}</title></path>')
        out.append(f'<path class="axis" d="M{LEFT:.0f} {foot:.0f}H{right:.0f}"/>')
    out += axis_labels(nice_ticks(first, last), x, foot)
    out.append("</svg>")
    return Markup("".join(out))


def keys(parts: Sequence[Part]) -> Markup:
    """The colours of a histogram's parts and their names, as a list."""
    items = "".join(
        f'<li><svg class="swatch" viewBox="0 0 1 1" aria-hidden="true">'
        f'<path class="part l{index}" d="M0 0h1v1H0z"/></svg>{escape(part.name)}</li>'
        for index, part in enumerate(parts)
    )
    return Markup(f'<ul class="keys">{items}</ul>')


def bins(edges: Sequence[float], counts: Sequence[int], *, name: str) -> Markup:
    """A histogram as a list with an item per bin, for readers who cannot hover. `name` as for
    `histogram`."""
    total = sum(counts) or 1
    ends = numbers(edges)
    items = "".join(
        [
            f"<li>{low} to {high}: {n:,} ({share(n / total)})</li>"
            for low, high, n in zip(ends, ends[1:], counts, strict=False)
        ]
    )
    # Only shares can contain characters that HTML would read as markup.
    items = items.replace("(<", "(&lt;").replace("(>", "(&gt;")
    return Markup(f'<ol class="bins" id="{escape(name)}-bins">{items}</ol>')


def _heights(largest: int, top: float, floor: float, log: bool) -> Callable[[int], float]:
    """The function from a count to the y of its bar's top. A count of 1 is still visible."""
    room = floor - top
    if log:
        decades = math.log10(largest) if largest > 1 else 1.0
        # The scale starts half a decade below 1.
        return lambda n: floor - (math.log10(n) + 0.3) / (decades + 0.3) * room if n else floor
    return lambda n: floor - max(1.5, n / max(1, largest) * room) if n else floor


def _bands(
    cuts: Sequence[Cut], x: Callable[[float], float], right: float, top: float, floor: float
) -> list[str]:
    """The background from each cut to the next, ever darker, with a line and a label per cut."""
    out: list[str] = []
    ends = [*(x(cut.value) for cut in cuts[1:]), right] if cuts else []
    labels = _labels(cuts, x, right, top)
    for i, (cut, end) in enumerate(zip(cuts, ends, strict=True)):
        at = x(cut.value)
        title = f"<title>{escape(cut.title)}</title>"
        out.append(
            f'<rect class="band b{min(i, 2)}" x="{at:.1f}" y="{top - 12:.0f}" '
            f'width="{max(0.0, end - at):.1f}" height="{floor - top + 12:.1f}">{title}</rect>'
        )
        out.append(f'<path class="cut" d="M{at:.1f} {top - 12:.0f}V{floor:.1f}"/>')
    return out + labels


def _labels(
    cuts: Sequence[Cut], x: Callable[[float], float], right: float, top: float
) -> list[str]:
    """The labels of the cuts, without overlaps: the highest always, the others if there is room."""
    out: list[str] = []
    free = right + 6
    for cut in reversed(cuts):
        at, wide = x(cut.value), 5.2 * len(cut.label) + 9
        if at + wide <= free:
            out.append(axis_text(at + 3, top - 3, "start", cut.label))
            free = at
        elif not out:
            out.append(axis_text(right, top - 3, "end", cut.label))
            free = min(at, right - wide)
    return out[::-1]


def _bars(
    edges: Sequence[float],
    counts: Sequence[int],
    x: Callable[[float], float],
    y: Callable[[int], float],
    floor: float,
) -> list[str]:
    """All bars as one path for the negative and one for the positive bins."""
    shapes: dict[str, list[str]] = {"neg": [], "pos": []}
    places = [x(edge) for edge in edges]
    foot = f"{floor:.1f}"
    for i, n in enumerate(counts):
        if n:
            wide = max(2.0, places[i + 1] - places[i] - 0.6)
            css = "neg" if edges[i] + edges[i + 1] < 0 else "pos"
            shapes[css].append(f"M{places[i]:.1f} {foot}V{y(n):.1f}h{wide:.1f}V{foot}z")
    return [f'<path class="{css}" d="{"".join(d)}"/>' for css, d in shapes.items() if d]


def _layers(
    edges: Sequence[float],
    counts: Sequence[int],
    parts: Sequence[Part],
    x: Callable[[float], float],
    y: Callable[[int], float],
    floor: float,
) -> list[str]:
    """A path for each part: its share of every bar, on top of the parts before it."""
    places = [x(edge) for edge in edges]
    feet = [floor] * len(counts)
    out: list[str] = []
    for index, part in enumerate(parts):
        d = ""
        for i, n in enumerate(part.counts):
            if n:
                wide = max(2.0, places[i + 1] - places[i] - 0.6)
                top = feet[i] - (floor - y(counts[i])) * n / counts[i]
                d += f"M{places[i]:.1f} {feet[i]:.1f}V{top:.1f}h{wide:.1f}V{feet[i]:.1f}z"
                feet[i] = top
        if d:
            title = f"<title>{escape(part.name)}</title>"
            out.append(f'<path class="part l{index}" d="{d}">{title}</path>')
    return out


def axis_labels(values: Sequence[float], x: Callable[[float], float], foot: float) -> list[str]:
    """Ticks along a horizontal axis, with labels below if there is room."""
    out: list[str] = []
    used: list[float] = []
    for value in sorted(values, key=abs):  # zero first: it always gets its label
        at = x(value)
        if all(abs(at - other) > LABEL_DISTANCE for other in used):
            used.append(at)
            label = tick_label(value)
            reach = 3.2 * len(label)
            anchor = "end" if at + reach > WIDTH else "start" if at - reach < 0 else "middle"
            out.append(f'<path class="axis" d="M{at:.1f} {foot:.0f}v3"/>')
            out.append(axis_text(at, foot + 13, anchor, label, "" if value else "zero-label"))
    return out


def axis_text(x: float, y: float, anchor: str, text: str, css: str = "") -> str:
    """Text in a chart; `anchor` is SVG's text-anchor."""
    kind = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def tick_label(value: float) -> str:
    """A tick's label, with no more digits than needed."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return compact(value)
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
