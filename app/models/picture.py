"""Draws a layer's picture as inline SVG, one cell a neuron, with a legend and a description.

Colours go by rank: statistics have heavy tails, and a linear scale would give nearly all neurons
the same colour. The steps are narrow at the upper end, so that the few outliers are visible.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.drawing.characters import PIECE, chip
from app.drawing.numbers import count, numbers
from app.models.schemas import LayerPicture, PictureStatistic
from app.reading.statistics import STATISTICS

MOST_NEURONS = 4096
"""The most neurons of a picture: wider layers are divided into parts."""
LEVELS = (10, 25, 50, 70, 80, 90, 95, 98, 99)
"""The percentiles of the neurons between which colours change."""
PITCH, SIDE = 10, 9
"""The distance between cells and the side of a cell, in user units."""
DEAD, VALUELESS = "d", "v"
"""The classes of cells without a colour."""

_CELL = f"M0 0h{SIDE}v{SIDE}h-{SIDE}z"
_HOLLOW = f"M1 1h{SIDE - 2}v{SIDE - 2}h-{SIDE - 2}z"
"""Smaller, because its stroke has to stay inside the cell."""
_MARKED = ((0, "lowest"), (3, "median"), (6, "90%"), (9, "99%"))
"""The colours whose lower end the legend labels; the others have titles only."""


@dataclass(frozen=True, slots=True)
class Step:
    """A colour of the legend."""

    css: str
    title: str
    mark: str | None
    """The name of its lower end, if that has a label."""
    value: str | None
    """The value at that end."""


def cuts(ranked: Sequence[float]) -> list[float]:
    """The values at `LEVELS`: the smallest value that at least that many percent do not exceed.

    `ranked` ascends; if it is empty, there are no cuts.
    """
    return [ranked[-(-level * len(ranked) // 100) - 1] for level in LEVELS if ranked]


def step(value: float, at: Sequence[float]) -> int:
    """The colour of a value, 1 to 10: one more than the number of cuts below it."""
    return bisect_left(at, value) + 1


def columns(neurons: int) -> int:
    """Cells a row: fixed, so that a layer looks the same on every screen."""
    return 32 if neurons <= 1024 else 64


def draw(picture: LayerPicture, address: tuple[str, str]) -> Markup:
    """The picture, row by row in neuron order, each cell a link with a title.

    `address`: the parts before and after a neuron's index in its address. Scripts read the titles,
    which are `index · token · value`.
    """
    if picture.stat == "density":
        texts = list(map(_speller(picture.stat), picture.values))
    else:
        texts = numbers(picture.values)
    wide, cuts = columns(picture.neurons), picture.cuts
    tokens = {token: _plain(token) for token in set(picture.peak_tokens)}
    faces = [f'p{index}" tabindex="-1"><title>' for index in range(len(LEVELS) + 2)]
    before, after = map(escape, address)
    cells = [
        f'<a href="{before}{index}{after}" class="{faces[step(value, cuts)]}{index} · '
        f'{tokens[token]} · {text}</title><path d="{_CELL}"/></a>'
        if value is not None and not dead
        else _without_colour(f"{before}{index}{after}", index, tokens[token], text, dead)
        for index, (value, text, dead, token) in enumerate(
            zip(picture.values, texts, picture.dead, picture.peak_tokens, strict=True),
            picture.first,
        )
    ]
    rows = math.ceil(len(cells) / wide)
    statistic = escape(STATISTICS[picture.stat].label)
    out = [
        f'<svg class="cells" viewBox="{PITCH} 0 {wide * PITCH - 1} {rows * PITCH - 1}" '
        f'data-columns="{wide}" data-stat="{statistic}" '
        f'data-noun="{escape(picture.run.units.noun)}" aria-hidden="true">'
    ]
    # Each cell is in a group inside the previous cell's, one step to the right. So no cell names
    # its position, which would be a seventh of the page's compressed size.
    group = f'<g transform="translate({PITCH})">'
    for row in range(rows):
        row_cells = cells[row * wide : (row + 1) * wide]
        out.append(f'<g transform="translate(0 {row * PITCH})">{group}')
        out.append(group.join(row_cells))
        out.append("</g>" * (len(row_cells) + 1))
    out.append("</svg>")
    return Markup("".join(out))


def _without_colour(address: str, index: int, token: str, value: str, dead: bool) -> str:
    """The cell of a neuron that is dead or has no value."""
    css, path, more = (DEAD, _HOLLOW, ", dead") if dead else (VALUELESS, _CELL, "")
    return (
        f'<a href="{address}" class="{css}" tabindex="-1"><title>{index} · {token} · {value}{more}'
        f'</title><path d="{path}"/></a>'
    )


def legend(picture: LayerPicture) -> list[Step]:
    """The ten colours; empty unless there are at least two different values."""
    if picture.lowest is None or picture.highest is None or picture.lowest == picture.highest:
        return []
    spell = _speller(picture.stat)
    ends = [picture.lowest, *picture.cuts, picture.highest]
    levels = [0, *LEVELS, 100]
    marks = dict(_MARKED)
    return [
        Step(
            css=f"p{index + 1}",
            title=f"{levels[index]} to {levels[index + 1]}% of {picture.run.units.noun}s: "
            f"{spell(ends[index])} to {spell(ends[index + 1])}",
            mark=marks.get(index),
            value=spell(ends[index]) if index in marks else None,
        )
        for index in range(len(ends) - 1)
    ]


def describe(picture: LayerPicture) -> str:
    """The layer's distribution in a sentence or two, for readers who cannot see the picture."""
    noun = picture.run.units.noun
    spell, name = _speller(picture.stat), STATISTICS[picture.stat].label.capitalize()
    dead = ""
    if picture.n_dead:
        are = "is" if picture.n_dead == 1 else "are"
        dead = f" {count(picture.n_dead)} of {count(picture.neurons)} {noun}s {are} dead."
    if picture.highest is None or picture.lowest is None:
        return dead.strip() or f"{name} is not known of any {noun}."
    if picture.lowest == picture.highest:
        of = f"{noun} {picture.highest_neuron}" if picture.counted == 1 else f"every live {noun}"
        return f"{name} of {of} is {spell(picture.highest)}.{dead}"
    return (
        f"{name} across {count(picture.counted)} live {noun}s ranges from "
        f"{spell(picture.lowest)} to {spell(picture.highest)} ({noun} {picture.highest_neuron}). "
        f"The median is {spell(picture.cuts[2])}; "
        f"one {noun} in ten is above {spell(picture.cuts[5])}, "
        f"one in a hundred above {spell(picture.cuts[8])}.{dead}"
    )


def _speller(stat: PictureStatistic) -> Callable[[float | None], str]:
    """The function that turns a statistic's values into text."""
    return STATISTICS[stat].text


def _plain(token: str) -> str:
    """A token as in a chip, escaped but without elements, since a title is plain text."""
    return str(chip(token)).replace(PIECE, "").replace("<i>", "").replace("</i>", "")
