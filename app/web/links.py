"""The addresses a page links to, with the run and view they keep."""

from __future__ import annotations

from typing import Any

from app.web.params import DEFAULT_LIMIT, USUAL_VIEW, Reading
from app.web.site import Site


def links_of(api: Any, page: Any, run: int | None, *place: str | int) -> dict[str, Any]:
    """The addresses of a page's JSON and of the page itself, without how it is laid out."""
    return {"json_url": api(*place, run=run), "canonical": page(*place, run=run)}


def unusual(limit: int) -> int | None:
    """The limit that links must go on naming: none, where it is the usual one."""
    return None if limit == DEFAULT_LIMIT else limit


def carried_view(view: Reading) -> Reading | None:
    """The view that links must go on naming: none, where it is the usual one."""
    return None if view == USUAL_VIEW else view


def carried_run(site: Site, model: str, run: int | None) -> int | None:
    """The run that links must go on naming: none, where it is the model's default one."""
    return None if run is None or site.queries.is_default(model, run) else run
