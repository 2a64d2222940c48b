"""Pure: numbers → inline SVG. Colours are classes, so that charts follow the theme and the page's
content policy; every number and word is escaped here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from app.numbers import compact, count, number, share

WIDTH, HEIGHT = 440.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 34.0, 8.0, 10.0, 20.0
"""The histogram's view box and the margins inside it, in user units."""
STRIP = 30.0
"""Height, below the bars, of the strip that shows where contexts peak."""


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


def bar(value: float | None, largest: float, css: str = "") -> Markup:
    """A bar as long as |value| / largest of its box; for the eye only, so hidden from readers."""
    part = 0.0
    if value is not None and math.isfinite(value) and largest > 0:
        part = min(1.0, abs(value) / largest)
    name = f"bar {css}".strip()
    width = f"{part * 100:.1f}".removesuffix(".0")
    return Markup(
        '<svg class="{}" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect width="{}" height="6"/></svg>'
    ).format(name, width)


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


def describe(edges: Sequence[float], counts: Sequence[int]) -> str:
    """The histogram in one sentence: how many, from where to where, and where most of them are."""
    total = sum(counts)
    if not total:
        return "No positions were counted."
    most = max(range(len(counts)), key=lambda i: counts[i])
    above = sum(n for low, n in zip(edges, counts, strict=False) if low >= 0)
    return (
        f"{count(total)} positions from {number(edges[0])} to {number(edges[-1])}. "
        f"The fullest of {len(counts)} bins, {number(edges[most])} to {number(edges[most + 1])}, "
        f"holds {share(counts[most] / total)}; those at or above 0 hold {share(above / total)}."
    )


def histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    low: float,
    high: float,
    quantiles: Sequence[tuple[str, float]] = (),
    ticks: Sequence[float] = (),
    name: str = "histogram",
) -> Markup:
    """Counts by bin on a logarithmic scale, and below them where whole contexts peak.

    `edges` has one more than `counts`; the axis covers both them and `low` to `high` (the exact
    minimum and maximum, which the sample's own range may not reach). `quantiles` are (label, value)
    of the contexts' peaks, lowest first, drawn as a line from first to last with a mark at each;
    `ticks` are the peaks of the top examples. `name` starts the ids, unique in the page.
    """
    first, last = min([low, *edges]), max([high, *edges])
    if last <= first:  # one value only: give the axis some width round it
        pad = abs(first) * 0.5 or 1.0
        first, last = first - pad, last + pad
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM - STRIP
    scale = (right - LEFT) / (last - first)

    def x(value: float) -> float:
        return min(right, max(LEFT, LEFT + (value - first) * scale))

    largest = max(counts, default=0)
    top = math.log10(largest) if largest > 1 else 1.0

    def y(n: int) -> float:
        # One position is a sliver, not nothing: the scale starts half a decade below 1.
        return floor - (math.log10(n) + 0.3) / (top + 0.3) * (floor - TOP) if n else floor

    total = sum(counts)
    out = [
        f'<svg class="chart" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" '
        f'aria-labelledby="{escape(name)}-t {escape(name)}-d">'
        f'<title id="{escape(name)}-t">Activations by position, counts on a log scale</title>'
        f'<desc id="{escape(name)}-d">{escape(describe(edges, counts))}</desc>'
    ]
    for n in count_ticks(largest) if total else []:
        out.append(f'<path class="grid" d="M{LEFT:.0f} {y(n):.1f}H{right:.0f}"/>')
        out.append(_text(LEFT - 5, y(n) + 3.5, "end", compact(n)))
    for left_edge, right_edge, n in zip(edges[:-1], edges[1:], counts, strict=True):
        if not n:
            continue
        words = f"{number(left_edge)} to {number(right_edge)}: {count(n)} ({share(n / total)})"
        x0, x1 = x(left_edge), x(right_edge)
        css = "neg" if (left_edge + right_edge) / 2 < 0 else "pos"
        width = max(2.0, x1 - x0 - 0.6)
        out.append(
            f'<rect class="{css}" x="{x0:.1f}" y="{y(n):.1f}" width="{width:.1f}" '
            f'height="{floor - y(n):.1f}"><title>{escape(words)}</title></rect>'
        )
    out.append(f'<path class="axis" d="M{LEFT:.0f} {floor:.1f}H{right:.0f}"/>')
    if first < 0 < last:
        out.append(f'<path class="zero" d="M{x(0):.1f} {TOP - 4:.1f}V{HEIGHT - BOTTOM:.1f}"/>')
    out += _peaks(x, floor + STRIP / 2 + 1, quantiles, ticks)
    foot = HEIGHT - 5
    used: list[float] = []
    for value in sorted(nice_ticks(first, last), key=abs):  # zero first: it always has its label
        at = x(value)
        words = _tick(value)
        if all(abs(at - other) > 34 for other in used):
            used.append(at)
            reach = 3.2 * len(words)
            anchor = "end" if at + reach > WIDTH else "start" if at - reach < 0 else "middle"
            out.append(f'<path class="axis" d="M{at:.1f} {HEIGHT - BOTTOM:.1f}v4"/>')
            out.append(_text(at, foot + 2, anchor, words, "zero-label" if value == 0 else ""))
    out.append(f'<path class="axis" d="M{LEFT:.0f} {HEIGHT - BOTTOM:.1f}H{right:.0f}"/></svg>')
    return Markup("".join(out))


def _peaks(
    x: Callable[[float], float],
    y: float,
    quantiles: Sequence[tuple[str, float]],
    ticks: Sequence[float],
) -> list[str]:
    """The strip of peaks: a line over the quantiles, marks at each, ticks for the top examples."""
    out: list[str] = []
    if quantiles:
        start, end = x(quantiles[0][1]), x(quantiles[-1][1])
        out.append(f'<path class="range" d="M{start:.1f} {y:.1f}H{max(end, start + 1):.1f}"/>')
        for label, value in quantiles:
            out.append(
                f'<path class="quantile" d="M{x(value):.1f} {y - 4:.1f}v8">'
                f"<title>{escape(label)}: {number(value)}</title></path>"
            )
    if ticks:
        d = "".join(f"M{x(value):.1f} {y - 7:.1f}v14" for value in ticks)
        out.append(f'<path class="tops" d="{d}"/>')
    return out
