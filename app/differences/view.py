"""The page of the differences between two runs."""

from __future__ import annotations

from dataclasses import dataclass

from app.differences.schemas import Differences, DifferenceSort
from app.reading.statistics import STATISTICS
from app.schemas import Order
from app.web.frame import Frame
from app.web.links import Links

HEADS: tuple[tuple[DifferenceSort, str, Order], ...] = (
    ("neuron", "Neuron", "asc"),
    ("correlation", "Correlation", "asc"),
    ("shared", "Shared top examples", "asc"),
    ("max", STATISTICS["max"].title, "desc"),
    ("density", STATISTICS["density"].title, "desc"),
)
"""The columns, each with the order that has the largest change first."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a column."""

    words: str
    href: str
    sorted: str
    """`ascending`, `descending` or empty."""


@dataclass(frozen=True, slots=True)
class DifferencesContext:
    """What `differences/differences.html` is rendered with."""

    frame: Frame
    page: Differences
    heads: list[Head]
    sides: tuple[Links, Links]
    """The links of each run."""
    layers: list[int]
    """The layers that have units in both runs."""
    cursor: str | None


def first_order(sort: DifferenceSort) -> Order:
    """The order in which a column is sorted first."""
    return next(order for name, _, order in HEADS if name == sort)


def heads(page: Differences, links: Links) -> list[Head]:
    """The heads of the columns; the current one turns the order."""
    headings = []
    for name, words, first in HEADS:
        active = page.sort == name
        order: Order = ("asc" if page.order == "desc" else "desc") if active else first
        href = links.differences(page.a.id, page.b.id, layer=page.layer, sort=name, order=order)
        words = page.a.units.noun.capitalize() if name == "neuron" else words
        headings.append(Head(words, href, f"{page.order}ending" if active else ""))
    return headings
