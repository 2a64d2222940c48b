"""A scatter plot of two neurons' peaks in the same contexts, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from app.drawing.charts import axis_labels, axis_text, nice_ticks, tick_label
from app.drawing.numbers import number

WIDTH, HEIGHT = 440.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 10.0, 16.0, 34.0


def scatter(
    across: Sequence[float],
    up: Sequence[float],
    *,
    title: str,
    description: str,
    names: tuple[str, str],
    hrefs: Sequence[str | None] = (),
) -> Markup:
    """A dot for each pair of values, `across` on the x axis and `up` on the y axis.

    `names` are the neurons of the two axes; `description` is read to those who cannot see the plot.
    `hrefs` are the addresses of the dots, None for a dot that leads nowhere; (): none does.
    """
    right, foot = WIDTH - RIGHT, HEIGHT - BOTTOM
    x_low, x_high = _range(across)
    y_low, y_high = _range(up)

    def x(value: float) -> float:
        return LEFT + (value - x_low) / (x_high - x_low) * (right - LEFT)

    def y(value: float) -> float:
        return foot - (value - y_low) / (y_high - y_low) * (foot - TOP)

    box = f'<svg class="chart scatter" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}"'
    if any(hrefs):  # an image has no links in it, and the page says in words what this one shows
        out = [f'{box} aria-hidden="true">']
    else:
        out = [
            f'{box} role="img" aria-labelledby="scatter-t scatter-d"><title id="scatter-t">'
            f'{escape(title)}</title><desc id="scatter-d">{escape(description)}</desc>'
        ]
    for value in nice_ticks(y_low, y_high, 5):
        out.append(f'<path class="grid" d="M{LEFT:.0f} {y(value):.1f}H{right:.0f}"/>')
        out.append(axis_text(LEFT - 5, y(value) + 3.5, "end", tick_label(value)))
    out.append(f'<path class="axis" d="M{LEFT:.0f} {foot:.0f}H{right:.0f}"/>')
    out += axis_labels(nice_ticks(x_low, x_high), x, foot)
    dots, linked = [], []
    links = hrefs or [None] * len(across)
    for a, b, href in zip(across, up, links, strict=True):
        dot = f"M{x(a):.1f} {y(b):.1f}h0"
        if href is None:
            dots.append(dot)
        else:  # a few hundred stops of the Tab key would be in the way of what follows
            linked.append(
                f'<a href="{escape(href)}" tabindex="-1"><title>{number(a)}, {number(b)}</title>'
                f'<path d="{dot}"/></a>'
            )
    out.append(f'<path class="dots" d="{"".join(dots)}"/><g class="dots">{"".join(linked)}</g>')
    out.append(axis_text(right, HEIGHT - 4, "end", f"peak of {names[0]} →"))
    out.append(axis_text(4, 10, "start", f"↑ peak of {names[1]}"))
    out.append("</svg>")
    return Markup("".join(out))


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The lowest and highest value, with a margin."""
    low, high = min(values), max(values)
    pad = (high - low) * 0.03 or abs(low) * 0.5 or 1.0
    return low - pad, high + pad
