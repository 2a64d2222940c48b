"""A context with the neurons that peak in it, as a page and as JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.contexts import queries
from app.contexts.schemas import ContextNeurons
from app.contexts.view import ContextNeuronsContext, context_view
from app.web import api_urls, urls
from app.web.answers import listing, with_notes
from app.web.frame import Frame
from app.web.params import (
    DEFAULT_LIMIT,
    ERRORS,
    LISTS,
    ContextId,
    Cursor,
    Fields,
    InSet,
    Limit,
    RunId,
)
from app.web.site import site_of

router = APIRouter()

At = Annotated[
    int | None,
    Query(ge=0, le=2**31 - 1, description="Only the neurons that peak at this position."),
]


@router.get(
    "/api/v1/models/{model}/contexts/{context}",
    response_model=ContextNeurons,
    responses=ERRORS | LISTS,
    tags=["api"],
)
def of_context(
    request: Request,
    model: InSet,
    context: ContextId,
    at: At = None,
    run: RunId = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    fields: Fields = None,
) -> Response:
    """A context and the neurons that have it as an example (random examples are left out)."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model, beside=[site.marks(model).version]):
        return unchanged
    with site.store.reading(model, run) as reading:
        page = queries.context(reading, context, at, limit, cursor)
    return listing(request, with_notes(request, page, model), fields)


@router.get("/{model}/contexts/{context}", include_in_schema=False)
def context_page(
    request: Request,
    model: InSet,
    context: ContextId,
    at: At = None,
    run: RunId = None,
    cursor: Cursor = None,
) -> Response:
    """A context and its neurons."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model):
        return unchanged
    with site.store.reading(model, run) as reading:
        page = queries.context(reading, context, at, DEFAULT_LIMIT, cursor)
    links = site.links(model, run)
    frame = Frame(
        links,
        json_url=api_urls.context_neurons(model, context, at=at, cursor=cursor, run=run),
        canonical=urls.context_neurons(model, context, run=run),
    )
    content = ContextNeuronsContext(frame, page, context_view(page, links), cursor)
    return site.html(request, "contexts/context.html", content)
