"""Pure: what the pages of searches show beside the fields of their JSON."""

from __future__ import annotations

from dataclasses import dataclass

from app.search.schemas import Role, TokenSearch

ROLES: dict[Role, tuple[str, str, str]] = {
    "peak": (
        "peak on it",
        "Mean peak",
        "Neurons whose top examples peak on this token: those with the most such examples first, "
        "then by the mean of those peaks.",
    ),
    "promoted": (
        "promote it",
        "Logit effect",
        "Neurons that have this token in their list of those they promote most: what one unit of "
        "activation adds directly to its logit, from weights alone.",
    ),
    "suppressed": (
        "suppress it",
        "Logit effect",
        "Neurons that have this token in their list of those they suppress most: what one unit of "
        "activation adds directly to its logit, from weights alone.",
    ),
    "in": (
        "are excited by it",
        "Input",
        "Neurons that have this token in their list of those whose embedding alone, through the "
        "layer's norm, drives them most: earlier layers and attention are left out.",
    ),
    "gate": (
        "have their gate opened by it",
        "Input to the gate",
        "Neurons that have this token in their list of those whose embedding alone, through the "
        "layer's norm, drives their gate most: earlier layers and attention are left out.",
    ),
}
"""Of each role: what neurons do to the token, what the number is, and the whole sentence."""


@dataclass(frozen=True, slots=True)
class SearchView:
    """What the neurons of a token are introduced with."""

    title: str
    heading: str
    sentence: str
    roles: list[tuple[Role, str, int, bool]]
    """In which ways there are neurons: role, words, how many, whether it is this one."""


def search(found: TokenSearch | None) -> SearchView | None:
    """The words for a search by token, if there was one."""
    if found is None:
        return None
    words, heading, sentence = ROLES[found.role]
    roles = [
        (one.role, ROLES[one.role][0], one.neurons, one.role == found.role) for one in found.roles
    ]
    title = f"Neurons that {words}" if roles else "No neurons"
    return SearchView(title, heading, sentence, roles)
