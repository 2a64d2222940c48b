"""The page of a context and the neurons that peak in it."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app.contexts.schemas import ContextNeurons
from app.drawing.characters import visible
from app.web.frame import Frame
from app.web.links import Links


@dataclass(frozen=True, slots=True)
class ContextView:
    """A context's text, and a summary of its neurons."""

    tokens: Markup
    """Each token is a link to the neurons that peak on it."""
    counts: str
    """The numbers of neurons that have it as an example, in words."""
    any: bool
    """Whether there are any."""


@dataclass(frozen=True, slots=True)
class ContextNeuronsContext:
    """What `contexts/context.html` is rendered with."""

    frame: Frame
    page: ContextNeurons
    view: ContextView
    cursor: str | None


def context_view(page: ContextNeurons, links: Links) -> ContextView:
    """The view of a context."""
    spans = []
    for position, (token, *neurons) in enumerate(
        zip(page.tokens, page.top, page.bottom, page.others, strict=True)
    ):
        text = visible(token, breaks=True)
        if position < page.included_from or position in page.special:
            spans.append(f'<span class="bos" title="not included">{visible(token)}</span>')
        elif not sum(neurons):
            spans.append(f"<span>{text}</span>")
        else:
            step = min(10, round(2 * sum(neurons) ** 0.5))
            current = ' aria-current="true"' if position == page.position else ""
            href = links.context_neurons(page.context_id, at=position)
            spans.append(
                f'<a class="p{step}" href="{Markup.escape(href)}#neurons"{current} '
                f'title="{_peaks(page.run.units.noun, *neurons)}, position {position}">{text}</a>'
            )
    top, bottom, others = sum(page.top), sum(page.bottom), sum(page.others)
    counts = examples(top, bottom, others, page.run.units.noun)
    return ContextView(Markup("".join(spans)), counts, any=top + bottom + others > 0)


def examples(top: int, bottom: int, others: int, noun: str) -> str:
    """The numbers of neurons that have a context as an example, in words."""
    more = f", another kind of example of {others:,}" if others else ""
    many = "" if (top, bottom, others)[2 if others else 1] == 1 else "s"
    return f"a top example of {top:,}, a bottom example of {bottom:,}{more} {noun}{many}"


def _peaks(noun: str, top: int, bottom: int, others: int) -> str:
    """The numbers of neurons that peak on a token or have their trough there, in words."""
    high = top + others
    peaks = f"the peak of {high:,} {noun}{'s' * (high != 1)}" if high else ""
    troughs = f"the trough of {bottom:,} {noun}{'s' * (bottom != 1)}" if bottom else ""
    return " and ".join(part for part in (peaks, troughs) if part)
