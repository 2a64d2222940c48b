"""The rows of a list's page."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app.drawing.numbers import exact
from app.drawing.palette import palette
from app.examples.lines import Kind, Layout, aligned, lines
from app.lists.entries import without_each
from app.lists.schemas import ListPage, ListRow
from app.schemas import MOST_ABLATED
from app.web import urls
from app.web.frame import Frame


@dataclass(frozen=True, slots=True)
class RowView:
    """One neuron of the list."""

    row: ListRow
    href: str | None
    line: Markup | None
    """Its first top example, aligned on the peak, on the neuron's own colour scale."""
    peak: str
    without: str
    """The address of the list without this neuron."""


@dataclass(frozen=True, slots=True)
class ListContext:
    """What `lists/list.html` is rendered with."""

    frame: Frame
    page: ListPage
    rows: list[RowView]
    titled_url: str | None
    """The same page with whole titles on every token; None on that page."""
    noun: str
    """What all the list's units are called; `unit` if they are of several kinds."""
    ablation: str | None
    """The page that ablates all of them together; None if they are not all of one run."""
    limit: int
    """The most neurons that a list may have."""
    add: str
    """The text in the box for another neuron."""
    wrong: str | None
    """Why that text is not a neuron."""


def rows_view(page: ListPage, *, titled: bool = False) -> list[RowView]:
    """The list's rows, in order. `titled`: each token carries its whole title."""
    rest = without_each([row.address for row in page.items])
    return [
        RowView(row, _href(row), *_line(row, titled), urls.neuron_list(n, title=page.title))
        for row, n in zip(page.items, rest, strict=True)
    ]


def noun(page: ListPage) -> str:
    """What all the list's units are called; `unit` if they are of several kinds."""
    nouns = {row.run.units.noun for row in page.items if row.run is not None} or {"neuron"}
    return nouns.pop() if len(nouns) == 1 else "unit"


def ablation(page: ListPage) -> str | None:
    """The page that ablates the list's neurons together; None if they are not of one run, or too
    many."""
    present = [row for row in page.items if row.neuron is not None and row.run is not None]
    runs = {row.run.id for row in present if row.run}
    if len(runs) != 1 or len(present) > MOST_ABLATED:
        return None
    first = present[0]
    assert first.run is not None
    run = first.run.id if "?run=" in first.address else None
    n = ",".join(f"{row.neuron.layer}/{row.neuron.neuron}" for row in present if row.neuron)
    return urls.ablation(first.run.name, n=n, run=run)


def _href(row: ListRow) -> str | None:
    if row.neuron is None or row.run is None:
        return None
    run = row.run.id if "?run=" in row.address else None
    return urls.neuron(row.run.name, row.neuron.layer, row.neuron.neuron, run=run)


def _line(row: ListRow, titled: bool) -> tuple[Markup | None, str]:
    if row.example is None or row.neuron is None or row.scale is None:
        return None, ""
    colours = palette(row.scale, low=row.neuron.min, high=row.neuron.max)
    layout = Layout("peak", colours, str, titled=titled)
    ((line,),) = lines([Kind([row.example], named=False)], layout)
    return Markup(aligned(line)), exact(row.example.peak)
