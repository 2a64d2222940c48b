"""Who may send texts to a live model: this site's own pages and programs."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from app.errors import Forbidden, NotFound
from app.live.engine import Live
from app.schemas import Error

ERRORS: dict[int | str, dict[str, Any]] = {
    403: {"model": Error, "description": "A page of another site sent the text."},
    404: {"model": Error, "description": "There is no such neuron, or the server is not live."},
    410: {"model": Error, "description": "The run's model is gone: another is in its place."},
    413: {"model": Error, "description": "The text has too many bytes or tokens."},
    422: {"model": Error, "description": "The text is empty, not UTF-8, or cannot be read."},
    503: {
        "model": Error,
        "description": "Too many texts are waiting (see Retry-After), or the run's model cannot be "
        "loaded here.",
    },
}


def live_of(request: Request) -> Live:
    """The server's live models. Raises Forbidden for a page of another site, NotFound if the server
    has none."""
    # A page of another site could not read the answer, but it could make this machine compute.
    if request.headers.get("sec-fetch-site") == "cross-site":
        raise Forbidden("Texts are taken from this site's own pages and from programs alone.")
    live: Live | None = request.app.state.live
    if live is None:
        raise NotFound(
            "Texts cannot be tried here: this server was started without --live, so that it loads "
            "no model. The command neurarium serve --live starts one that does."
        )
    return live
