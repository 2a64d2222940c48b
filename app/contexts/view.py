"""A context's page: its text, and the neurons that peak in it."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app.contexts.schemas import ContextNeurons
from app.drawing.characters import visible
from app.web import urls


@dataclass(frozen=True, slots=True)
class ContextView:
    """A context's text, each token a link to the neurons that peak on it."""

    tokens: Markup
    said: str
    """Of how many neurons it is an example, of which kind."""
    any: bool
    """Whether there is one."""


def context(page: ContextNeurons, run: int | None) -> ContextView:
    """The text of a context; `run` is carried in its links."""
    pieces = []
    for position, (token, *counts) in enumerate(
        zip(page.tokens, page.top, page.bottom, page.others, strict=True)
    ):
        shown = visible(token, breaks=True)
        if position < page.included_from:
            pieces.append(f'<span class="bos" title="not included">{visible(token)}</span>')
        elif not sum(counts):
            pieces.append(f"<span>{shown}</span>")
        else:
            step = min(10, round(2 * sum(counts) ** 0.5))
            here = ' aria-current="true"' if position == page.position else ""
            href = urls.context_neurons(page.model, page.context_id, at=position, run=run)
            pieces.append(
                f'<a class="p{step}" href="{Markup.escape(href)}#neurons"{here} '
                f'title="{_peaks(*counts)}, position {position}">{shown}</a>'
            )
    top, bottom, others = sum(page.top), sum(page.bottom), sum(page.others)
    said = examples(top, bottom, others)
    return ContextView(Markup("".join(pieces)), said, any=top + bottom + others > 0)


def examples(top: int, bottom: int, others: int) -> str:
    """Of how many neurons something is an example, in words."""
    more = f", another kind of example of {others:,}" if others else ""
    many = "" if (top, bottom, others)[2 if others else 1] == 1 else "s"
    return f"a top example of {top:,}, a bottom example of {bottom:,}{more} neuron{many}"


def _peaks(top: int, bottom: int, others: int) -> str:
    """How many neurons have their peak or trough on a token, in words."""
    high = top + others
    peaks = f"the peak of {high:,} neuron{'s' * (high != 1)}" if high else ""
    troughs = f"the trough of {bottom:,} neuron{'s' * (bottom != 1)}" if bottom else ""
    return " and ".join(part for part in (peaks, troughs) if part)
