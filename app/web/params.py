"""The parameters that several routes take, with bounds and descriptions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Request

from app.schemas import DEFAULT_VIEW, Error, View
from app.sets import ModelSet, name_of
from indexer.store.units import NEURONS, SET_NAME

ModelName = Annotated[str, Path(description="A model's name.")]
SetName = Annotated[
    str,
    Path(
        pattern=f"^{SET_NAME.pattern}$",
        description="A set of units of the model other than its default set.",
    ),
]


async def model_set(request: Request, model: ModelName) -> ModelSet:
    """The model in the address, and the set of units, if the address names one."""
    return name_of(model, request.path_params.get("set", NEURONS))


InSet = Annotated[ModelSet, Depends(model_set)]
"""The model and the set of units in the address: routes take it as `model`."""
LayerIndex = Annotated[int, Path(ge=0, description="Zero-based layer.")]
NeuronIndex = Annotated[int, Path(ge=0, description="Zero-based neuron in its layer.")]
HeadIndex = Annotated[int, Path(ge=0, description="Zero-based attention head in its layer.")]
ContextId = Annotated[
    int, Path(ge=0, le=2**63 - 1, description="A context of the run, in corpus order.")
]
RunId = Annotated[
    int | None, Query(ge=1, description="A run of the model; by default its default run.")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="The most items.")]
Cursor = Annotated[str | None, Query(description="The `next` of the previous page.")]
Embed = Annotated[Literal["1"] | None, Query()]
"""Whether to answer with a bare page for another site's frame."""
Card = Annotated[Literal["1", "card"] | None, Query()]
"""As `Embed`; `card`: with its summary and first examples alone."""
ViewQuery = Annotated[View, Query()]
"""How a neuron's examples are laid out."""
ChosenView = Annotated[View | None, Query()]
"""The same; without it, the layout that was chosen last: see `view_of`."""
Titles = Annotated[Literal["all"] | None, Query()]
"""Whether each token carries its whole title, which a script otherwise completes."""

Fields = Annotated[
    str | None,
    Query(
        description="Only these fields, separated by commas; dots lead into objects: "
        "`stats.max,examples.top.peak`. Default: all."
    ),
]

ALL_TITLES: Literal["all"] = "all"
DEFAULT_LIMIT = 100

VIEWS: dict[View, str] = {"peak": "Aligned", "window": "Snippets", "context": "Full context"}
"""The name of each view on pages; the first view is the default."""

ERRORS: dict[int | str, dict[str, Any]] = {
    304: {"description": "Nothing has changed since the ETag in If-None-Match."},
    404: {"model": Error, "description": "There is no such object."},
    406: {"model": Error, "description": "Only lists can be CSV."},
    422: {"model": Error, "description": "A parameter cannot be used."},
    503: {"model": Error, "description": "The database does not answer."},
}
"""The errors of every API route, for OpenAPI."""


LISTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
}
"""What a list can also be answered as, for OpenAPI."""


def not_default_limit(limit: int) -> int | None:
    """The limit that links name: None for the default."""
    return None if limit == DEFAULT_LIMIT else limit


VIEW_COOKIE = "neurarium-view"
"""The layout that was chosen last, which examples/views.js writes. It holds nothing else."""


def view_of(request: Request, chosen: View | None) -> View:
    """The layout of a page: as its address says, or as chosen last, or the default."""
    if chosen is not None:
        return chosen
    kept = request.cookies.get(VIEW_COOKIE)
    return next((view for view in VIEWS if view == kept), DEFAULT_VIEW)
