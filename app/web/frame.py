"""What every page has in common: its frame, and a context that its template is rendered with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from app.web.links import Links


@dataclass(frozen=True, slots=True)
class Frame:
    """What `base.html`, the frame of every page, shows."""

    links: Links | None = None
    """The links of the page's model; None on pages that are of no model."""
    json_url: str | None = None
    """The same page as JSON."""
    canonical: str | None = None
    """The page's own address, without how it is laid out."""
    embed: bool = False
    """Whether it is a bare page for another site's frame: no header, links open outside."""


class Context(Protocol):
    """What a template is rendered with: a frozen dataclass, each field a name in the template.

    Templates also know `links` (the frame's), `urls` (app.web.urls), `views` (params.VIEWS),
    `static(name)` (the versioned address of a static file) and `FILTERS`.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def frame(self) -> Frame:
        """What base.html shows."""
        ...
