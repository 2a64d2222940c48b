"""The parameters that several routes take, with their bounds and descriptions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query

from app.schemas import Error

LayerIndex = Annotated[int, Path(ge=0, description="Zero-based layer.")]
NeuronIndex = Annotated[int, Path(ge=0, description="Zero-based neuron in its layer.")]
ContextId = Annotated[
    int, Path(ge=0, le=2**63 - 1, description="A context of the run, in corpus order.")
]
RunId = Annotated[
    int | None, Query(ge=1, description="Another run of the model than its default one.")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="Items at most.")]
From = Annotated[
    int, Query(alias="from", ge=0, description="The first neuron of a picture; it holds 4,096.")
]
Cursor = Annotated[str | None, Query(description="The `next` of the page before.")]
DEFAULT_LIMIT = 100
ERRORS: dict[int | str, dict[str, Any]] = {
    304: {"description": "Nothing has changed since the ETag that came as If-None-Match."},
    404: {"model": Error, "description": "What was asked for does not exist."},
    422: {"model": Error, "description": "What was asked cannot be parsed."},
    503: {"model": Error, "description": "The database does not answer."},
}
Reading = Literal["peak", "window", "context"]
"""How examples are laid out: a line aligned on the peak, the text round it, the whole context."""
READINGS: dict[Reading, str] = {"peak": "aligned", "window": "windows", "context": "contexts"}
"""What each is called on the page; the first is the usual one."""
Embed = Annotated[Literal["1"] | None, Query()]
"""Whether a bare page is asked for, to be shown in another site's frame."""
View = Annotated[Reading, Query()]
"""How a neuron's examples are laid out."""
USUAL_VIEW: Reading = "peak"
"""The view that links need not name."""
