"""What goes before a neuron's page where it is linked or embedded: a description in a sentence for
link previews, and the card of `?embed=card`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from app.drawing.characters import label
from app.drawing.numbers import number, share
from app.drawing.palette import palette
from app.examples.lines import Kind, Layout, lines, markup
from app.neurons.schemas import NeuronPage
from app.neurons.summary import Summary, summary
from app.web.frame import Frame
from app.web.links import Links

EXAMPLES = 5
"""Top examples of a card."""
_TOKENS = 4
"""Tokens of each list in a description."""


@dataclass(frozen=True, slots=True)
class CardContext:
    """What `neurons/embedded.html` is rendered with."""

    frame: Frame
    page: NeuronPage
    summary: Summary
    examples: Markup
    """The first top examples, as a list of lines."""


def card(page: NeuronPage, links: Links, frame: Frame) -> CardContext:
    """The card of a neuron: its summary and its first top examples."""
    colours = palette(page.scale, low=page.stats.min, high=page.stats.max)
    layout = Layout("peak", colours, links.contexts(page.layer, page.neuron), titled=True)
    (top,) = lines([Kind(page.examples.top[:EXAMPLES])], layout)
    drawn = markup(top, layout) if top else Markup()
    return CardContext(frame, page, summary(page, links.tokens()), drawn)


def description(page: NeuronPage) -> str:
    """What the neuron does, in one or two sentences of plain text, for link previews."""
    if page.stats.dead:
        run = page.run
        return f"A dead {run.units.noun} of {run.model_id}: nothing in {run.corpus} activates it."
    top = page.examples.top
    tokens = Counter(
        example.tokens[at]
        for example in top
        if 0 <= (at := example.peak_position - example.start) < len(example.tokens)
    )
    sources = Counter(example.source for example in top if example.source)
    parts = []
    if tokens:
        fires = ", ".join(_quoted(token) for token, _ in tokens.most_common(_TOKENS))
        where = ""
        if sources:
            source, found = sources.most_common(1)[0]
            where = f" ({found} of {len(top)} top examples in {source})"
        parts.append(f"Fires on {fires}{where}.")
    promoted = [one.token for one in page.weights.logit_effects.top if "\\x" not in one.token]
    if promoted:
        parts.append(f"Promotes {', '.join(map(_quoted, promoted[:_TOKENS]))}.")
    parts.append(f"Max {number(page.stats.max)}, density {share(page.stats.density)}.")
    return " ".join(parts)


def _quoted(token: str) -> str:
    return f"“{Markup(label(token)).unescape()}”"
