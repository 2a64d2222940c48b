"""Checks who may send texts to a live model: programs, and this site's own pages."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException, Request, Response

from app.errors import Forbidden, NotFound
from app.live.elsewhere import Elsewhere
from app.live.engine import Live
from app.schemas import Error

AnyLive = Live | Elsewhere
"""The models, in this process or in another one."""

ERRORS: dict[int | str, dict[str, Any]] = {
    403: {"model": Error, "description": "A page of another site sent the text."},
    404: {
        "model": Error,
        "description": "There is no such neuron, or the server runs without --live.",
    },
    410: {"model": Error, "description": "The run's model has been replaced."},
    413: {"model": Error, "description": "The text has too many bytes or tokens."},
    422: {"model": Error, "description": "The text is empty, not UTF-8, or unusable."},
    503: {
        "model": Error,
        "description": "Too many texts are waiting (see Retry-After), or the run's model cannot be "
        "loaded here.",
    },
}


def live_of(request: Request) -> AnyLive:
    """The server's live models. Raises Forbidden for pages of other sites, NotFound if the server
    runs without --live."""
    # A page of another site could not read the answer, but it could keep this machine busy.
    if request.headers.get("sec-fetch-site") == "cross-site":
        raise Forbidden("Only this site's own pages and programs may send texts.")
    live: AnyLive | None = request.app.state.live
    if live is None:
        raise NotFound(
            "This server cannot run texts, because it was started without --live. Start it with "
            "neurarium serve --live."
        )
    return live


def only_post() -> Response:
    """Refuse GET on an API route that takes a text. Raises HTTPException with status 405."""
    raise HTTPException(405, headers={"Allow": "POST"})
