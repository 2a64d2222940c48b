"""A list of neurons → the rows its page shows."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app.drawing.numbers import exact
from app.drawing.palette import palette
from app.examples.lines import Kind, Layout, aligned, lines
from app.lists.entries import without_each
from app.lists.schemas import ListPage, ListRow
from app.web import urls


@dataclass(frozen=True, slots=True)
class RowView:
    """One neuron of the list."""

    row: ListRow
    href: str | None
    line: Markup | None
    """Its first top example, aligned on its peak and on a colour scale of its own."""
    peak: str
    without: str
    """The list without it."""


def rows(page: ListPage, *, titled: bool = False) -> list[RowView]:
    """The list's rows, in its order; `titled`: as `Layout` has it."""
    rest = without_each([row.address for row in page.items])
    return [
        RowView(row, _href(row), *_line(row, titled), urls.neuron_list(n, title=page.title))
        for row, n in zip(page.items, rest, strict=True)
    ]


def _href(row: ListRow) -> str | None:
    if row.neuron is None or row.model is None:
        return None
    run = row.run.id if row.run is not None and "?run=" in row.address else None
    return urls.neuron(row.model, row.neuron.layer, row.neuron.neuron, run=run)


def _line(row: ListRow, titled: bool) -> tuple[Markup | None, str]:
    if row.example is None or row.neuron is None or row.scale is None:
        return None, ""
    colours = palette(row.scale, low=row.neuron.min, high=row.neuron.max)
    layout = Layout("peak", colours, str, titled=titled)
    ((line,),) = lines([Kind([row.example], named=False)], layout)
    return Markup(aligned(line)), exact(row.example.peak)
