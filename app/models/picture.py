"""A layer's picture as inline SVG, one cell a neuron, with its legend and its description.

Colours go by rank: statistics have heavy tails, and on a linear scale nearly all neurons would
share one colour. The steps are narrow at the upper end, so that the few outliers are visible.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.drawing.characters import chip
from app.drawing.numbers import count, numbers
from app.models.schemas import LayerPicture, PictureStatistic
from app.reading.statistics import STATISTICS

AT_ONCE = 4096
"""Neurons of one picture at most: a wider layer is shown part by part."""
LEVELS = (10, 25, 50, 70, 80, 90, 95, 98, 99)
"""Percent of the neurons, from the lowest on, at which one colour ends and the next begins."""
PITCH, SIDE = 10, 9
"""From one cell to the next, and a cell's own side, in user units."""
DEAD, VALUELESS = "d", "v"
"""Classes of cells that have no colour."""

_CELL = f"M0 0h{SIDE}v{SIDE}h-{SIDE}z"
_HOLLOW = f"M1 1h{SIDE - 2}v{SIDE - 2}h-{SIDE - 2}z"
"""Its stroke stays inside the cell."""
_MARKED = ((0, "lowest"), (3, "median"), (6, "90%"), (9, "99%"))
"""The steps at whose lower end the legend says a value; all others say theirs on hover."""


@dataclass(frozen=True, slots=True)
class Step:
    """One colour of the legend."""

    css: str
    title: str
    mark: str | None
    """What its lower end is called, where it is said…"""
    value: str | None
    """…and that value."""


def cuts(ranked: Sequence[float]) -> list[float]:
    """The values at `LEVELS`: the smallest value that at least so many percent are not above.

    `ranked` is in ascending order; none of it: no cuts.
    """
    return [ranked[-(-level * len(ranked) // 100) - 1] for level in LEVELS if ranked]


def step(value: float, at: Sequence[float]) -> int:
    """The colour of a value, 1 to 10: one more than the cuts below it. Ties have one colour."""
    return bisect_left(at, value) + 1


def columns(neurons: int) -> int:
    """Cells a row: fixed, so that a layer always looks the same."""
    return 32 if neurons <= 1024 else 64


def draw(picture: LayerPicture, address: tuple[str, str]) -> Markup:
    """The picture: row by row in neuron order, each cell a link with a title.

    `address`: of a neuron of the layer, what stands before and behind its index. What a cell's
    title says is `number · token · value`: scripts read it so.
    """
    if picture.stat == "density":
        said = list(map(_words(picture.stat), picture.values))
    else:
        said = numbers(picture.values)
    wide, cuts = columns(picture.neurons), picture.cuts
    tokens = {token: _plain(token) for token in set(picture.peak_tokens)}
    faces = [f'p{index}" tabindex="-1"><title>' for index in range(len(LEVELS) + 2)]
    before, behind = map(escape, address)
    cells = [
        f'<a href="{before}{index}{behind}" class="{faces[step(value, cuts)]}{index} · '
        f'{tokens[token]} · {shown}</title><path d="{_CELL}"/></a>'
        if value is not None and not dead
        else _without_colour(f"{before}{index}{behind}", index, tokens[token], shown, dead)
        for index, (value, shown, dead, token) in enumerate(
            zip(picture.values, said, picture.dead, picture.peak_tokens, strict=True),
            picture.first,
        )
    ]
    rows = math.ceil(len(cells) / wide)
    statistic = escape(STATISTICS[picture.stat].label)
    out = [
        f'<svg class="cells" viewBox="{PITCH} 0 {wide * PITCH - 1} {rows * PITCH - 1}" '
        f'data-columns="{wide}" data-stat="{statistic}" aria-hidden="true">'
    ]
    # Each cell's group lies in the one before and a step to its right: no cell names its place,
    # which is a seventh of the page's compressed size.
    group = f'<g transform="translate({PITCH})">'
    for row in range(rows):
        some = cells[row * wide : (row + 1) * wide]
        out.append(f'<g transform="translate(0 {row * PITCH})">{group}')
        out.append(group.join(some))
        out.append("</g>" * (len(some) + 1))
    out.append("</svg>")
    return Markup("".join(out))


def _without_colour(address: str, index: int, token: str, value: str, dead: bool) -> str:
    """The cell of a neuron that is dead, or of which the statistic is not known."""
    css, path, more = (DEAD, _HOLLOW, ", dead") if dead else (VALUELESS, _CELL, "")
    return (
        f'<a href="{address}" class="{css}" tabindex="-1"><title>{index} · {token} · {value}{more}'
        f'</title><path d="{path}"/></a>'
    )


def legend(picture: LayerPicture) -> list[Step]:
    """The ten colours; none, where there are not two values to tell apart."""
    if picture.lowest is None or picture.highest is None or picture.lowest == picture.highest:
        return []
    words = _words(picture.stat)
    ends = [picture.lowest, *picture.cuts, picture.highest]
    levels = [0, *LEVELS, 100]
    marks = dict(_MARKED)
    return [
        Step(
            css=f"p{index + 1}",
            title=f"{levels[index]} to {levels[index + 1]}% of neurons: "
            f"{words(ends[index])} to {words(ends[index + 1])}",
            mark=marks.get(index),
            value=words(ends[index]) if index in marks else None,
        )
        for index in range(len(ends) - 1)
    ]


def describe(picture: LayerPicture) -> str:
    """The layer's distribution in a sentence or two: the picture for those who do not see it."""
    words, name = _words(picture.stat), STATISTICS[picture.stat].label.capitalize()
    dead = ""
    if picture.n_dead:
        are = "is" if picture.n_dead == 1 else "are"
        dead = f" {count(picture.n_dead)} of {count(picture.neurons)} neurons {are} dead."
    if picture.highest is None or picture.lowest is None:
        return dead.strip() or f"{name} is not known of any neuron."
    if picture.lowest == picture.highest:
        of = f"neuron {picture.highest_neuron}" if picture.counted == 1 else "every living neuron"
        return f"{name} of {of} is {words(picture.highest)}.{dead}"
    return (
        f"{name} of {count(picture.counted)} living neurons goes from {words(picture.lowest)} to "
        f"{words(picture.highest)} (neuron {picture.highest_neuron}). The median is "
        f"{words(picture.cuts[2])}; one neuron in ten is above {words(picture.cuts[5])}, one in a "
        f"hundred above {words(picture.cuts[8])}.{dead}"
    )


def _words(stat: PictureStatistic) -> Callable[[float | None], str]:
    """How a statistic's values are written."""
    return STATISTICS[stat].text


def _plain(token: str) -> str:
    """A token as a chip shows it, escaped, without elements: a title is text."""
    return str(chip(token)).replace("<i>", "").replace("</i>", "")
