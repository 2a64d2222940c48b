"""A context's page: its text, and the neurons that peak in it."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app.contexts.schemas import ContextNeurons
from app.drawing.characters import visible
from app.web.frame import Frame
from app.web.links import Links


@dataclass(frozen=True, slots=True)
class ContextView:
    """A context's text, each token a link to the neurons that peak on it."""

    tokens: Markup
    counts: str
    """Of how many neurons it is an example, of which kind."""
    any: bool
    """Whether there is such a neuron."""


@dataclass(frozen=True, slots=True)
class ContextContext:
    """What `contexts/context.html` is rendered with."""

    frame: Frame
    page: ContextNeurons
    view: ContextView
    cursor: str | None


def context_view(page: ContextNeurons, links: Links) -> ContextView:
    """A context's text as links, and its counts in words."""
    pieces = []
    for position, (token, *neurons) in enumerate(
        zip(page.tokens, page.top, page.bottom, page.others, strict=True)
    ):
        text = visible(token, breaks=True)
        if position < page.included_from:
            pieces.append(f'<span class="bos" title="not included">{visible(token)}</span>')
        elif not sum(neurons):
            pieces.append(f"<span>{text}</span>")
        else:
            step = min(10, round(2 * sum(neurons) ** 0.5))
            here = ' aria-current="true"' if position == page.position else ""
            href = links.context_neurons(page.context_id, at=position)
            pieces.append(
                f'<a class="p{step}" href="{Markup.escape(href)}#neurons"{here} '
                f'title="{_peaks(*neurons)}, position {position}">{text}</a>'
            )
    top, bottom, others = sum(page.top), sum(page.bottom), sum(page.others)
    counts = examples(top, bottom, others)
    return ContextView(Markup("".join(pieces)), counts, any=top + bottom + others > 0)


def examples(top: int, bottom: int, others: int) -> str:
    """Of how many neurons a context is an example, in words."""
    more = f", another kind of example of {others:,}" if others else ""
    many = "" if (top, bottom, others)[2 if others else 1] == 1 else "s"
    return f"a top example of {top:,}, a bottom example of {bottom:,}{more} neuron{many}"


def _peaks(top: int, bottom: int, others: int) -> str:
    """How many neurons have their peak or trough on a token, in words."""
    high = top + others
    peaks = f"the peak of {high:,} neuron{'s' * (high != 1)}" if high else ""
    troughs = f"the trough of {bottom:,} neuron{'s' * (bottom != 1)}" if bottom else ""
    return " and ".join(part for part in (peaks, troughs) if part)
