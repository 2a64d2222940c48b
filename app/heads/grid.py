"""The page of a whole context: its text, its pattern as a picture and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.drawing.numbers import count, share
from app.heads.colours import colour
from app.heads.lines import token_chip_in, whole_text
from app.heads.schemas import HeadContext
from app.web.frame import Frame

GRID_MOST = 192
"""Positions of a grid; longer texts have a list of rows alone."""

_CELL = 7
_SCALE = 4
"""Pixels of a unit, where there is room."""


@dataclass(frozen=True, slots=True)
class GridView:
    """What the page of a whole context shows besides its `HeadContext`."""

    text: Markup
    grid: Markup | None
    """None for contexts that are too long for a grid."""
    no_grid: str | None
    """Why there is none."""
    rows: list[tuple[Markup, int, Markup, str]]
    """Each token, its position, the keys it attends to most, and what is left out."""


@dataclass(frozen=True, slots=True)
class GridContext:
    """What `heads/context.html` is rendered with."""

    frame: Frame
    page: HeadContext
    view: GridView


def grid_view(page: HeadContext) -> GridView:
    """A whole context: its text, its attention as a grid (up to `GRID_MOST` positions), and a table
    of the keys of each position."""
    rows = []
    for position, (row, left) in enumerate(zip(page.rows, page.left_out, strict=True)):
        keys = Markup(", ").join(
            Markup("{} {}").format(token_chip_in(page.tokens, key), share(attention))
            for key, attention in row[:3]
        )
        rows.append((token_chip_in(page.tokens, position), position, keys, share(left)))
    text = whole_text(page.tokens, [], None)
    no_grid = too_long(len(page.tokens), "context")
    return GridView(text, None if no_grid else pattern_svg(page.rows, label=True), no_grid, rows)


def too_long(length: int, what: str) -> str | None:
    """Why a text of `length` tokens has no grid; None if it has one."""
    if length <= GRID_MOST:
        return None
    return (
        f"Attention is drawn as a grid for up to {GRID_MOST} tokens, and this {what} has "
        f"{count(length)}: point at a token to see its attention, or read the table."
    )


def pattern_svg(rows: Sequence[Sequence[tuple[int, float]]], *, label: bool = False) -> Markup:
    """A pattern as a picture: a row a query, a column a key, a path a colour. Without a label it is
    hidden from readers without sight."""
    side = len(rows) * _CELL
    cells: dict[str, list[str]] = {}
    for query, row in enumerate(rows):
        for key, attention in row:
            if css := colour(attention, 0.0, 1.0):
                square = f"M{key * _CELL} {query * _CELL}h{_CELL}v{_CELL}h-{_CELL}z"
                cells.setdefault(css, []).append(square)
    named = (
        'role="img" aria-label="Attention: a row for each query, a column for each key"'
        if label
        else 'aria-hidden="true"'
    )
    paths = "".join(
        f'<path class="{css}" d="{"".join(squares)}"/>' for css, squares in sorted(cells.items())
    )
    return Markup(
        f'<svg class="pattern" width="{_SCALE * side}" viewBox="0 0 {side} {side}" {named}>'
        f'<path class="causal" d="M0 0L{side} {side}H0z"/>{paths}</svg>'
    )
