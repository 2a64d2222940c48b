"""The page of a whole context: its text, its pattern as a picture and as a table."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app.drawing.numbers import share
from app.heads.colours import colour
from app.heads.lines import token_chip, token_markup
from app.heads.schemas import HeadContext
from app.web.frame import Frame

_GRID_MOST = 96
"""Positions of a grid; longer contexts are shown as a list of rows alone."""

_CELL = 7


@dataclass(frozen=True, slots=True)
class GridView:
    """What the page of a whole context shows besides its `HeadContext`."""

    text: Markup
    grid: Markup | None
    """None for contexts that are too long for one."""
    rows: list[tuple[Markup, int, Markup, str]]
    """Each token, its position, the keys it attends to most, and what is left out."""


@dataclass(frozen=True, slots=True)
class GridContext:
    """What `heads/context.html` is rendered with."""

    frame: Frame
    page: HeadContext
    view: GridView


def grid_view(page: HeadContext) -> GridView:
    """The view of a whole context."""
    length = len(page.tokens)
    rows = []
    for position, (token, row, left) in enumerate(
        zip(page.tokens, page.rows, page.left_out, strict=True)
    ):
        keys = Markup(", ").join(
            Markup("{} {}").format(token_chip(page.tokens[key]), share(attention))
            for key, attention in row[:3]
        )
        rows.append((token_chip(token), position, keys, share(left)))
    text = Markup(
        "".join(
            token_markup(token, position, 0.0, False, False)
            for position, token in enumerate(page.tokens)
        )
    )
    return GridView(text, _grid(page) if length <= _GRID_MOST * 2 else None, rows)


def _grid(page: HeadContext) -> Markup:
    """The pattern as a picture: a row a query, a column a key."""
    side = len(page.tokens) * _CELL
    out = [
        f'<svg class="pattern" viewBox="0 0 {side} {side}" role="img" '
        'aria-label="Attention: a row for each query, a column for each key">',
        f'<path class="causal" d="M0 0L{side} {side}H0z"/>',
    ]
    for query, row in enumerate(page.rows):
        for key, attention in row:
            css = colour(attention, 0.0, 1.0)
            if css:
                out.append(
                    f'<rect class="{css}" x="{key * _CELL}" y="{query * _CELL}" '
                    f'width="{_CELL}" height="{_CELL}"/>'
                )
    out.append("</svg>")
    return Markup("".join(out))
