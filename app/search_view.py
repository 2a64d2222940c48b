"""Pure: what the pages of searches show beside the fields of their JSON."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app import urls
from app.characters import visible
from app.search_schemas import ContextNeurons, Role, TokenSearch

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


@dataclass(frozen=True, slots=True)
class ContextView:
    """A context's text, each token a link to the neurons that peak on it."""

    tokens: Markup
    top: int
    bottom: int


def context(page: ContextNeurons, run: int | None) -> ContextView:
    """The text of a context; `run` is carried in its links."""
    pieces = []
    for position, (token, top, bottom) in enumerate(
        zip(page.tokens, page.top, page.bottom, strict=True)
    ):
        shown = visible(token, breaks=True)
        count = top + bottom
        if position < page.included_from:
            pieces.append(f'<span class="bos" title="not included">{visible(token)}</span>')
        elif not count:
            pieces.append(f"<span>{shown}</span>")
        else:
            step = min(10, round(2 * count**0.5))
            here = ' aria-current="true"' if position == page.position else ""
            href = urls.context_neurons(page.model, page.context_id, at=position, run=run)
            pieces.append(
                f'<a class="p{step}" href="{Markup.escape(href)}#neurons"{here} '
                f'title="{_said(top, bottom)}, position {position}">{shown}</a>'
            )
    return ContextView(Markup("".join(pieces)), top=sum(page.top), bottom=sum(page.bottom))


def _said(top: int, bottom: int) -> str:
    """How many neurons, in words."""
    peaks = f"the peak of {top:,} neuron{'s' * (top != 1)}" if top else ""
    troughs = f"the trough of {bottom:,} neuron{'s' * (bottom != 1)}" if bottom else ""
    return " and ".join(part for part in (peaks, troughs) if part)
