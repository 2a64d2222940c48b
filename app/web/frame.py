"""What every page has: a frame, and a context that its template is rendered with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from app.web.links import Links


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
