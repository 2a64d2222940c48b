"""What other wings add to a neuron's page: the box for custom text and the notes.

Their wings import this one, so `app.main` puts the functions together and this page calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from app.neurons.schemas import NeuronPage
from app.web.links import Links


@dataclass(frozen=True, slots=True)
class NotesPanel:
    """A neuron's newest notes."""

    version: str
    """Changes whenever a note comes or goes: part of the page's ETag."""
    box: Callable[[Links], Any]
    """The notes and their form, as `notes/box.html` shows them."""


@dataclass(frozen=True, slots=True)
class Panels:
    """The panels of a server; None if the server has no such panel."""

    live: Callable[[NeuronPage, Links], Any] | None = None
    """The box for custom text, as `live/box.html` shows it."""
    notes: Callable[[str, int, int], NotesPanel] | None = None
    """The notes on a neuron, given its model, layer and index."""


def panels_of(request: Request) -> Panels:
    """The panels of the server that a request was sent to."""
    panels: Panels = request.app.state.panels
    return panels
