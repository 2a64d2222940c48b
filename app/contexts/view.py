"""The page of a context and the neurons that peak in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.contexts.schemas import ContextNeuron, ContextNeurons
from app.drawing.characters import visible
from app.drawing.numbers import count, number
from app.reading.statistics import FLOOR
from app.web.frame import Frame
from app.web.links import Links

_FEWEST_TIED = 3


@dataclass(frozen=True, slots=True)
class ContextView:
    """A context's text, and a summary of its neurons."""

    tokens: Markup
    """Each token is a link to the neurons that peak on it."""
    counts: str
    """The numbers of neurons that have it as an example, in words."""
    any: bool
    """Whether there are any."""
    shown: list[ContextNeuron]
    """The neurons of the page that are not in `tied`."""
    tied: list[ContextNeuron]
    """Neurons whose troughs here tie at the activation's minimum: they say little."""
    tie: str
    """What they have in common, in words."""


@dataclass(frozen=True, slots=True)
class ContextNeuronsContext:
    """What `contexts/context.html` is rendered with."""

    frame: Frame
    page: ContextNeurons
    view: ContextView
    cursor: str | None


def context_view(page: ContextNeurons, links: Links) -> ContextView:
    """A context's text, each token linked and darker the more neurons it is an example of, and its
    neurons; those that only tie at the nonlinearity's minimum are apart."""
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
    tied = _tied(page.items)
    noun = page.run.units.noun
    return ContextView(
        Markup("".join(spans)),
        counts,
        any=top + bottom + others > 0,
        shown=[row for row in page.items if row not in tied],
        tied=tied,
        tie=f"{count(len(tied))} {noun}s tie at the activation's minimum, {number(tied[0].value)}"
        if tied
        else "",
    )


def _tied(rows: Sequence[ContextNeuron]) -> list[ContextNeuron]:
    """The rows of bottom examples whose troughs tie at the nonlinearity's own minimum; none unless
    several neurons do."""
    troughs = [row for row in rows if row.kind == "bottom" and row.value < 0]
    lowest = min((row.value for row in troughs), default=0.0)
    tied = [row for row in troughs if row.value - lowest <= FLOOR * -lowest]
    return tied if len(tied) >= _FEWEST_TIED else []


def examples(top: int, bottom: int, others: int, noun: str) -> str:
    """The numbers of neurons that have a context as an example, in words."""
    total = top + bottom + others
    if not total:
        return f"an example of no {noun}"
    kinds = ((top, "top"), (bottom, "bottom"), (others, "other"))
    there = ", ".join(f"{kind} of {count:,}" for count, kind in kinds if count)
    return f"an example of {total:,} {noun}{'s' * (total != 1)} ({there})"


def _peaks(noun: str, top: int, bottom: int, others: int) -> str:
    """The numbers of neurons that peak on a token or have their trough there, in words."""
    high = top + others
    peaks = f"the peak of {high:,} {noun}{'s' * (high != 1)}" if high else ""
    troughs = f"the trough of {bottom:,} {noun}{'s' * (bottom != 1)}" if bottom else ""
    return " and ".join(part for part in (peaks, troughs) if part)
