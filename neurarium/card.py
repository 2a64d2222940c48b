"""A neuron's or an attention head's card for notebooks: the beginning of its page, in a frame of
its own.

The frame has its styles in it and may run nothing, so a token's text can do nothing to the
notebook, and the notebook's styles nothing to the card.
"""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape

from markupsafe import Markup

from app.heads.schemas import HeadPage
from app.heads.view import head_card as shortened
from app.heads.view import head_view
from app.neurons.schemas import NeuronPage
from app.neurons.summary import summary
from app.neurons.view import neuron_view
from app.web import assets
from app.web.links import Links
from app.web.site import templates

EXAMPLES = 5
"""Top examples that a card shows."""
_STYLES = (
    *("base/theme", "base/style", "base/page", "base/tables", "base/colours"),
    *("neurons/neuron", "neurons/summary", "examples/examples"),
)
_LINK = re.compile(r'<a\b[^>]*?\bhref="[^"]*"')


def card(page: NeuronPage) -> str:
    """The card as an element for a notebook: self-contained, without links and scripts."""
    few = page.examples.model_copy(update={"top": page.examples.top[:EXAMPLES]})
    shown = page.model_copy(update={"examples": few})
    view = neuron_view(shown, "peak", Links(page.model, page.run.id), titled=True)
    # The summary counts all top examples, and the card shows fewer.
    view = replace(view, summary=summary(page, Links(page.model, page.run.id).tokens()))
    top = replace(view.sections[0], logo=Markup())
    document = (
        templates()
        .get_template("neurons/card.html")
        .render(page=page, view=view, section=top, styles=_styles(*_STYLES))
    )
    title = f"{page.model} layer {page.layer} {page.run.units.label(page.neuron, page.name)}"
    return _frame(document, title, 260 + 26 * min(EXAMPLES, len(page.examples.top)))


def head_card(page: HeadPage) -> str:
    """The card of an attention head: its scores, tokens and strongest pairs."""
    links = Links(page.run.name, page.run.id)
    view = shortened(head_view(page, links, lambda _: ("", "")))
    document = (
        templates()
        .get_template("heads/card.html")
        .render(page=page, view=view, styles=_styles(*_STYLES, "heads/heads"))
    )
    pairs = sum(len(one.lines) for one in view.lists)
    return _frame(document, f"{page.model} layer {page.layer} head {page.head}", 190 + 52 * pairs)


def _styles(*names: str) -> str:
    folder = assets.folder("static")
    return "\n".join((folder / f"{name}.css").read_text(encoding="utf-8") for name in names)


def _frame(document: str, title: str, height: int) -> str:
    """A document without its links, as an element. `height`: in pixels."""
    document = _LINK.sub("<a", document)  # there may be no server behind it
    return (
        f'<iframe sandbox="" srcdoc="{escape(document)}" title="{escape(title)}" '
        f'style="width:100%;height:{height}px;border:1px solid #8888"></iframe>'
    )
