"""The page of the differences between two runs."""

from __future__ import annotations

from dataclasses import dataclass

from app.differences.schemas import Differences, DifferenceSort, first_order
from app.drawing.numbers import known
from app.reading.statistics import STATISTICS
from app.schemas import Order
from app.web.frame import Frame
from app.web.links import Links

HEADS: tuple[tuple[DifferenceSort, str], ...] = (
    ("neuron", "Neuron"),
    ("correlation", "Correlation"),
    ("shared", "Shared top examples"),
    ("max", STATISTICS["max"].title),
    ("density", STATISTICS["density"].title),
)
"""The columns that sort."""


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


def heads(page: Differences, links: Links) -> list[Head]:
    """The heads of the columns; the current one turns the order."""
    headings = []
    for name, words in HEADS:
        active = page.sort == name
        if name in ("correlation", "shared") and not active and not known(page.items, name):
            continue
        order: Order = ("asc" if page.order == "desc" else "desc") if active else first_order(name)
        href = links.differences(page.a.id, page.b.id, layer=page.layer, sort=name, order=order)
        words = page.a.units.noun.capitalize() if name == "neuron" else words
        headings.append(Head(words, href, f"{page.order}ending" if active else ""))
    return headings
