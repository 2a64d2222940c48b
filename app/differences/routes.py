"""The differences between two runs of a model, as a page and as JSON."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.differences import queries
from app.differences.schemas import Differences, DifferenceSort
from app.differences.view import DifferencesContext, heads
from app.schemas import Order
from app.sets import ModelSet
from app.web import api_urls, urls
from app.web.answers import listing, with_notes
from app.web.frame import Frame
from app.web.links import Links
from app.web.params import DEFAULT_LIMIT, ERRORS, LISTS, Cursor, Fields, InSet, Limit
from app.web.site import Site, site_of

router = APIRouter()

RunA = Annotated[int | None, Query(ge=1, description="A run; by default the model's default run.")]
RunB = Annotated[
    int | None,
    Query(ge=1, description="Another run; by default the newest other one at its hook point."),
]
OneLayer = Annotated[
    int | None, Query(ge=0, description="Only this layer; needed by models of over 8,192 neurons.")
]
ChosenSort = Annotated[
    DifferenceSort | None,
    Query(
        description="By default correlation; without enough common contexts shared; without shared "
        "examples max."
    ),
]


@router.get(
    "/api/v1/models/{model}/differences",
    response_model=Differences,
    responses=ERRORS | LISTS,
    tags=["api"],
)
def differences(
    request: Request,
    model: InSet,
    a: RunA = None,
    b: RunB = None,
    layer: OneLayer = None,
    sort: ChosenSort = None,
    order: Order | None = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    fields: Fields = None,
) -> Response:
    """What changed of each neuron between two runs of a model: those that changed most first."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model, beside=[site.marks(model).version]):
        return unchanged
    page, _ = _read(site, model, a, b, layer, sort, order, limit, cursor)
    return listing(request, with_notes(request, page, model), fields)


@router.get("/{model}/differences", include_in_schema=False)
def differences_page(
    request: Request,
    model: InSet,
    a: RunA = None,
    b: RunB = None,
    layer: OneLayer = None,
    sort: ChosenSort = None,
    order: Order | None = None,
    cursor: Cursor = None,
) -> Response:
    """A table of the neurons of two runs."""
    site = site_of(request)
    marks = site.marks(model)
    if unchanged := site.unchanged(request, model, beside=[marks.version]):
        return unchanged
    page, layers = _read(site, model, a, b, layer, sort, order, DEFAULT_LIMIT, cursor)
    links = Links(model)
    query: dict[str, Any] = {"layer": page.layer, "sort": page.sort, "order": page.order}
    frame = Frame(
        links,
        json_url=api_urls.differences(model, page.a.id, page.b.id, cursor=cursor, **query),
        canonical=urls.differences(model, page.a.id, page.b.id, **query),
        marks=marks,
    )
    sides = site.links(model, page.a.id), site.links(model, page.b.id)
    context = DifferencesContext(frame, page, heads(page, links), sides, layers, cursor)
    return site.html(request, "differences/differences.html", context)


def _read(
    site: Site,
    model: ModelSet,
    a: int | None,
    b: int | None,
    layer: int | None,
    sort: DifferenceSort | None,
    order: Order | None,
    limit: int,
    cursor: str | None,
) -> tuple[Differences, list[int]]:
    """A page of the comparison, and the layers that have units in both runs."""
    with site.store.connect() as connection:
        first, second = queries.readings(site.store, connection, model, a, b)
        page = queries.differences(first, second, layer, sort, order, limit, cursor)
        return page, queries.layers_of(first, second)
