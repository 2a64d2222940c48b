"""What other wings add to a neuron's page: the form for custom text, and the notes.

Those wings import this one, so `app.main` passes their functions to the neuron's page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from app.neurons.schemas import NeuronPage
from app.schemas import Note
from app.sets import ModelSet
from app.web.links import Links


@dataclass(frozen=True, slots=True)
class NotesPanel:
    """A neuron's newest notes."""

    version: str
    """Changes with every new or deleted note; part of the page's ETag."""
    items: list[Note]
    """The newest notes, newest first."""
    box: Callable[[Links], Any]
    """Makes the `notes.view.Box` that `notes/box.html` shows."""


@dataclass(frozen=True, slots=True)
class Panels:
    """The panels of a server; None where a panel is switched off."""

    live: Callable[[NeuronPage, Links], Any] | None = None
    """Makes the `live.neuron.view.Box` that `live/box.html` shows."""
    notes: Callable[[ModelSet, int, int], NotesPanel] | None = None
    """Reads the notes on a neuron, given its model, layer and index."""


def panels_of(request: Request) -> Panels:
    """The panels of the server that a request was sent to."""
    panels: Panels = request.app.state.panels
    return panels
