"""A neuron's card for notebooks: the head of its page, in a frame of its own.

The frame has its styles in it and may run nothing, so a token's text can do nothing to the
notebook, and the notebook's styles nothing to the card.
"""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape

from markupsafe import Markup

from app.neurons.schemas import NeuronPage
from app.neurons.summary import summary
from app.neurons.view import neuron_view
from app.web import assets
from app.web.links import Links
from app.web.site import templates

EXAMPLES = 5
"""Top examples that a card shows."""
_STYLES = (
    *("base/theme", "base/style", "base/tables", "base/colours"),
    *("neurons/neuron", "neurons/summary", "examples/examples"),
)
_LINK = re.compile(r'<a\b[^>]*?\bhref="[^"]*"')


def card(page: NeuronPage) -> str:
    """The card as an element for a notebook: self-contained, without links and scripts."""
    few = page.examples.model_copy(update={"top": page.examples.top[:EXAMPLES]})
    shown = page.model_copy(update={"examples": few})
    view = neuron_view(shown, "peak", Links(page.model, page.run.id), titled=True)
    # What it fires on is said of all top examples, not of those shown.
    view = replace(view, summary=summary(page, Links(page.model, page.run.id).tokens()))
    styles = "\n".join(
        (assets.folder("static") / f"{name}.css").read_text(encoding="utf-8") for name in _STYLES
    )
    top = replace(view.sections[0], logo=Markup())
    document = (
        templates()
        .get_template("neurons/card.html")
        .render(page=page, view=view, section=top, styles=styles)
    )
    document = _LINK.sub("<a", document)  # there may be no server behind it
    rows = min(EXAMPLES, len(page.examples.top))
    return (
        f'<iframe sandbox="" srcdoc="{escape(document)}" title="{escape(_title(page))}" '
        f'style="width:100%;height:{260 + 26 * rows}px;border:1px solid #8888"></iframe>'
    )


def _title(page: NeuronPage) -> str:
    return f"{page.model} layer {page.layer} {page.run.units.label(page.neuron, page.name)}"
