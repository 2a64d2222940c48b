"""The page of the searches by token and by text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.contexts.view import examples
from app.reading.statistics import STATISTICS
from app.schemas import Order
from app.search.schemas import ContextSort, PairRole, Role, SearchPage, TokenSearch, TokenSort
from app.web.frame import Frame
from app.web.links import Links

ROLES: dict[Role, tuple[str, str, str]] = {
    "peak": (
        "peak on it",
        "Mean peak",
        "{units} whose top examples peak on this token, with the number of these examples and the "
        "mean of their peaks.",
    ),
    "promoted": (
        "promote it",
        "Logit effect",
        "{units} that have this token in their list of those they promote most: what one unit of "
        "activation adds directly to its logit, from weights alone.",
    ),
    "suppressed": (
        "suppress it",
        "Logit effect",
        "{units} that have this token in their list of those they suppress most: what one unit of "
        "activation adds directly to its logit, from weights alone.",
    ),
    "in": (
        "are activated by it",
        "Input",
        "{units} that have this token in their list of those whose embedding alone, through the "
        "layer's norm, activates them most: earlier layers and attention are left out.",
    ),
    "gate": (
        "have their gate opened by it",
        "Input to the gate",
        "{units} that have this token in their list of those whose embedding alone, through the "
        "layer's norm, drives their gate most: earlier layers and attention are left out.",
    ),
    "query": (
        "attend from it",
        "Pairs",
        "{units} among whose most frequent query tokens this token is, counted over their largest "
        "pair in each context: those with the most such pairs first.",
    ),
    "key": (
        "attend to it",
        "Pairs",
        "{units} among whose most frequent key tokens this token is, counted over their largest "
        "pair in each context: those with the most such pairs first.",
    ),
}
"""For each role: what its neurons do, the heading of their values, and a sentence."""


@dataclass(frozen=True, slots=True)
class ColumnHead:
    """The head of a column that sorts."""

    words: str
    href: str
    sorted: str
    """`ascending`, `descending` or empty."""


@dataclass(frozen=True, slots=True)
class TokenView:
    """The words around the neurons of a token."""

    title: str
    heading: str
    """The heading of the neurons' values."""
    sentence: str
    roles: list[tuple[Role, str, int, bool]]
    """Each role with any neurons: its name, what they do, their number, whether it is current."""
    columns: dict[TokenSort, ColumnHead]
    """The heads of columns, by what they sort by."""


CONTEXT_SORTS: tuple[tuple[ContextSort, str], ...] = (
    ("specific", "specificity"),
    ("top", "number of {units}"),
    ("context", "place in the corpus"),
)
"""What the contexts of a text sort by, in words."""


PAIR_ROLES: tuple[tuple[PairRole | None, str], ...] = (
    (None, "put out most at it"),
    ("query", "attend from it"),
    ("key", "attend to it"),
)
"""What heads do at the match of a text."""


@dataclass(frozen=True, slots=True)
class SearchContext:
    """What `search/search.html` is rendered with."""

    frame: Frame
    page: SearchPage
    view: TokenView | None
    """None if no token was searched for."""
    cursor: str | None
    live: bool
    """Whether the server can search by custom text."""
    examples: Callable[[int, int, int, str], str] = examples
    """Turns counts of examples into words."""
    sorts: tuple[tuple[ContextSort, str], ...] = CONTEXT_SORTS
    """What the contexts of a text sort by, in words."""
    has_pairs: bool = False
    """Whether the run is of attention heads, which a text's match can be the query or key of."""
    pair_roles: tuple[tuple[PairRole | None, str], ...] = PAIR_ROLES
    """What a match can be to attention heads, in words."""


def token_view(results: TokenSearch, noun: str, links: Links) -> TokenView:
    """The words around the neurons of a token: title, roles, heads of columns."""
    words, heading, sentence = ROLES[results.role]
    roles = [
        (entry.role, ROLES[entry.role][0], entry.neurons, entry.role == results.role)
        for entry in results.roles
    ]
    title = f"{noun.capitalize()}s that {words}" if roles else f"No {noun}s"
    heads: tuple[tuple[TokenSort, str], ...] = (
        ("neuron", noun.capitalize()),
        ("count", "Top examples"),
        ("value", heading),
        ("max", STATISTICS["max"].title),
        ("density", STATISTICS["density"].title),
    )
    columns = {sort: _head(results, sort, name, links) for sort, name in heads}
    return TokenView(title, heading, sentence.format(units=f"{noun.capitalize()}s"), roles, columns)


def _head(results: TokenSearch, sort: TokenSort, words: str, links: Links) -> ColumnHead:
    active = results.sort == sort
    first: Order = "asc" if sort == "neuron" else "desc"
    order = ("asc" if results.order == "desc" else "desc") if active else first
    href = links.search(token_id=results.token_id, role=results.role, sort=sort, order=order)
    return ColumnHead(words, href, f"{results.order}ending" if active else "")
