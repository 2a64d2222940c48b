"""Parameters that several routes take, with their bounds and descriptions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query

from app.schemas import Error, View

LayerIndex = Annotated[int, Path(ge=0, description="Zero-based layer.")]
NeuronIndex = Annotated[int, Path(ge=0, description="Zero-based neuron in its layer.")]
ContextId = Annotated[
    int, Path(ge=0, le=2**63 - 1, description="A context of the run, in corpus order.")
]
RunId = Annotated[
    int | None, Query(ge=1, description="Another run of the model than its default one.")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="Items at most.")]
Cursor = Annotated[str | None, Query(description="The `next` of the page before.")]
Embed = Annotated[Literal["1"] | None, Query()]
"""Whether a bare page is asked for, to be shown in another site's frame."""
ViewQuery = Annotated[View, Query()]
"""How a neuron's examples are laid out."""
Titles = Annotated[Literal["all"] | None, Query()]
"""Whether each token of a line carries its whole title, which a script adds otherwise."""

ALL_TITLES: Literal["all"] = "all"
DEFAULT_LIMIT = 100

VIEWS: dict[View, str] = {"peak": "aligned", "window": "windows", "context": "contexts"}
"""What each view is called on the page; the first is the default."""

ERRORS: dict[int | str, dict[str, Any]] = {
    304: {"description": "Nothing has changed since the ETag that came as If-None-Match."},
    404: {"model": Error, "description": "What was asked for does not exist."},
    422: {"model": Error, "description": "What was asked cannot be parsed."},
    503: {"model": Error, "description": "The database does not answer."},
}
"""The errors of every route of the API."""


def not_default_limit(limit: int) -> int | None:
    """The limit as links name it: None if it is the default."""
    return None if limit == DEFAULT_LIMIT else limit
