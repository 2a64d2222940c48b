"""The attention heads of a model, one head, and a head in a whole context: pages and JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.errors import Invalid
from app.heads import queries
from app.heads.grid import GridContext, grid_view
from app.heads.picture import HeadsContext, heads_view
from app.heads.schemas import HeadContext, HeadPage, HeadsPage
from app.heads.scores import DEFAULT, SCORES
from app.heads.view import HeadCard, HeadContextOfPage, head_card, head_view
from app.neurons.panels import panels_of
from app.sets import ModelSet
from app.web import api_urls, urls
from app.web.answers import listing, single, with_notes
from app.web.frame import Frame
from app.web.params import (
    ERRORS,
    LISTS,
    Card,
    ContextId,
    Fields,
    HeadIndex,
    LayerIndex,
    ModelName,
    RunId,
)
from app.web.site import site_of
from indexer.store.units import HEADS

api = APIRouter(prefix="/api/v1/models/{model}/heads", tags=["api"], responses=ERRORS)
pages = APIRouter(prefix="/{model}/heads", include_in_schema=False)

By = Annotated[
    str, Query(alias="by", max_length=40, description="The score that colours and sorts.")
]


@api.get("", response_model=HeadsPage, responses=LISTS)
def heads(request: Request, model: ModelName, run: RunId = None, fields: Fields = None) -> Response:
    """All attention heads of a model with their scores."""
    site, name = site_of(request), ModelSet(model, HEADS)
    if unchanged := site.unchanged(request, name, beside=[site.marks(name).version]):
        return unchanged
    with site.store.reading(name, run) as reading:
        page = with_notes(request, queries.heads(reading), name, of="heads")
    return listing(request, page, fields, of="heads")


@api.get("/{layer}/{head}", response_model=HeadPage)
def head(
    request: Request,
    model: ModelName,
    layer: LayerIndex,
    head: HeadIndex,
    run: RunId = None,
    fields: Fields = None,
) -> Response:
    """An attention head: scores, examples by ranking, tokens, what its weights say."""
    site, name, panels = site_of(request), ModelSet(model, HEADS), panels_of(request)
    notes = None if panels.notes is None else panels.notes(name, layer, head)
    beside = [] if notes is None else [notes.version]
    if unchanged := site.unchanged(request, name, beside=beside):
        return unchanged
    with site.store.reading(name, run) as reading:
        page = queries.head(reading, layer, head)
    items = None if notes is None else notes.items
    return single(request, page.model_copy(update={"notes": items}), fields)


@api.get("/{layer}/{head}/contexts/{context}", response_model=HeadContext)
def head_context(
    request: Request,
    model: ModelName,
    layer: LayerIndex,
    head: HeadIndex,
    context: ContextId,
    run: RunId = None,
    fields: Fields = None,
) -> Response:
    """A head's pattern over a whole context that is one of its examples."""
    site, name = site_of(request), ModelSet(model, HEADS)
    if unchanged := site.unchanged(request, name):
        return unchanged
    with site.store.reading(name, run) as reading:
        return single(request, queries.context(reading, layer, head, context), fields)


@pages.get("")
def heads_page(request: Request, model: ModelName, run: RunId = None, by: By = DEFAULT) -> Response:
    """All attention heads of a model: a picture and a table, coloured and sorted by a score."""
    if by not in SCORES:
        raise Invalid(f"There is no score {by!r}: the scores are {', '.join(SCORES)}.")
    site, name = site_of(request), ModelSet(model, HEADS)
    marks = site.marks(name)
    if unchanged := site.unchanged(request, name, beside=[marks.version]):
        return unchanged
    with site.store.reading(name, run) as reading:
        page = queries.heads(reading)
    links = site.links(name, run)
    frame = Frame(
        links,
        json_url=api_urls.heads(model, run=run),
        canonical=urls.model(name, run=run),
        marks=marks,
    )
    view = heads_view(page, by, links, lambda score: urls.heads(model, by=score, run=links.run))
    return site.html(request, "heads/heads.html", HeadsContext(frame, page, view))


@pages.get("/{layer}/{head}")
def head_page(
    request: Request,
    model: ModelName,
    layer: LayerIndex,
    head: HeadIndex,
    run: RunId = None,
    embed: Card = None,
) -> Response:
    """An attention head; with `embed=card`, its summary and strongest pairs alone."""
    site, name, panels = site_of(request), ModelSet(model, HEADS), panels_of(request)
    bare, notes = embed is not None, None
    if panels.notes is not None and not bare:
        notes = panels.notes(name, layer, head)
    beside = [] if notes is None else [notes.version]
    if unchanged := site.unchanged(request, name, beside=beside, bare=bare):
        return unchanged
    with site.store.reading(name, run) as reading:
        page = queries.head(reading, layer, head)
    links = site.links(name, run)
    frame = Frame(
        links,
        json_url=api_urls.head(model, layer, head, run=run),
        canonical=urls.neuron(name, layer, head, run=run),
        embed=bare,
    )

    def contexts(context_id: int) -> tuple[str, str]:
        json_url = api_urls.head_context(model, layer, head, context_id, run=links.run)
        return links.context(layer, head, context_id), json_url

    view = head_view(page, links, contexts)
    if embed == "card":
        return site.html(request, "heads/embedded.html", HeadCard(frame, page, head_card(view)))
    form = links.try_text(layer, head) if site.live and not bare else None
    box = notes.box(links) if notes is not None else None
    return site.html(request, "heads/head.html", HeadContextOfPage(frame, page, view, form, box))


@pages.get("/{layer}/{head}/contexts/{context}")
def head_context_page(
    request: Request,
    model: ModelName,
    layer: LayerIndex,
    head: HeadIndex,
    context: ContextId,
    run: RunId = None,
) -> Response:
    """A head's pattern over a whole context that is one of its examples."""
    site, name = site_of(request), ModelSet(model, HEADS)
    if unchanged := site.unchanged(request, name):
        return unchanged
    with site.store.reading(name, run) as reading:
        page = queries.context(reading, layer, head, context)
    frame = Frame(
        site.links(name, run),
        json_url=api_urls.head_context(model, layer, head, context, run=run),
        canonical=urls.context(name, layer, head, context, run=run),
    )
    return site.html(request, "heads/context.html", GridContext(frame, page, grid_view(page)))
