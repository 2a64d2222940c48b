"""What every page has: a frame, and a context that its template is rendered with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from app.web.links import Links


@dataclass(frozen=True, slots=True)
class Marks:
    """How many notes neurons have, for tables and lists of neurons."""

    counts: Mapping[tuple[str, int, int], int] = field(default_factory=dict)
    """By model, layer and neuron; only neurons with notes."""
    version: str = ""
    """Changes with every new or deleted note: for ETags."""

    def get(self, model: str, layer: int, neuron: int) -> int:
        """The number of notes on a neuron."""
        return self.counts.get((model, layer, neuron), 0)


NO_MARKS = Marks()


@dataclass(frozen=True, slots=True)
class Frame:
    """The parts of a page that `base.html` shows."""

    links: Links | None = None
    """The links of the page's model; None on pages without a model."""
    json_url: str | None = None
    """The address of the same page as JSON."""
    canonical: str | None = None
    """The page's own address, without parameters of its layout."""
    embed: bool = False
    """Whether the page is bare, for another site's frame: no header, and links open outside."""
    description: str = ""
    """What the page is about, in plain text: for link previews and search engines."""
    typed: str = ""
    """What was typed into the go-to box and led nowhere."""
    marks: Marks = NO_MARKS
    """The notes on the neurons that the page lists."""


class Context(Protocol):
    """What a template is rendered with: a frozen dataclass whose fields are names in the template.

    Every template also has `links` (the frame's), `urls` (app.web.urls), `views` (params.VIEWS),
    `static(name)` (the versioned address of a static file) and the filters in `site.FILTERS`.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def frame(self) -> Frame:
        """What `base.html` shows."""
        ...
