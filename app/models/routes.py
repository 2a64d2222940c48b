"""The list of models, a model, a layer: as pages and as JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.models import queries, view
from app.models.schemas import (
    LayerPicture,
    ModelList,
    ModelPage,
    NeuronList,
    PictureStatistic,
    Sort,
    default_order,
)
from app.schemas import Order
from app.web import urls
from app.web.frame import Frame
from app.web.params import (
    DEFAULT_LIMIT,
    ERRORS,
    Cursor,
    Embed,
    InSet,
    LayerIndex,
    Limit,
    RunId,
    not_default_limit,
)
from app.web.site import site_of

api = APIRouter(prefix="/api/v1", tags=["api"], responses=ERRORS)
pages = APIRouter(include_in_schema=False)

From = Annotated[
    int,
    Query(
        alias="from", ge=0, description="The first neuron of the picture, which has at most 4,096."
    ),
]


@api.get("/models", response_model=ModelList)
def models(request: Request, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Response:
    """The models, by name."""
    site = site_of(request)
    if unchanged := site.unchanged(request, None):
        return unchanged
    return site.json(request, queries.models(site.store, limit, cursor))


@api.get("/models/{model}", response_model=ModelPage)
def model(request: Request, model: InSet, run: RunId = None) -> Response:
    """A model: its layers in numbers, and its runs."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model):
        return unchanged
    with site.store.reading(model, run) as reading:
        return site.json(request, queries.model(reading))


@api.get("/models/{model}/layers/{layer}/neurons", response_model=NeuronList)
def neurons(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    run: RunId = None,
    sort: Sort = "neuron",
    order: Order | None = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """A page of a layer's neurons, in any order."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model):
        return unchanged
    direction = default_order(sort, order)
    with site.store.reading(model, run) as reading:
        page = queries.layer(reading, layer, sort, direction, limit, cursor)
    return site.json(request, page.neurons)


@api.get("/models/{model}/layers/{layer}/picture", response_model=LayerPicture)
def picture(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    run: RunId = None,
    stat: PictureStatistic = "max",
    first: From = 0,
) -> Response:
    """A statistic of all neurons of a layer, as its picture shows it."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model):
        return unchanged
    with site.store.reading(model, run) as reading:
        return site.json(request, queries.picture(reading, layer, stat, first))


@pages.get("/")
def home_page(request: Request, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Response:
    """The list of models."""
    site = site_of(request)
    if unchanged := site.unchanged(request, None):
        return unchanged
    named_limit = not_default_limit(limit)
    frame = Frame(json_url=urls.api_models(limit=named_limit, cursor=cursor), canonical=urls.home())
    page = queries.models(site.store, limit, cursor)
    return site.html(
        request, "models/home.html", view.HomeContext(frame, page, cursor, named_limit)
    )


@pages.get("/{model}")
def model_page(request: Request, model: InSet, run: RunId = None, embed: Embed = None) -> Response:
    """A model's layers."""
    site = site_of(request)
    bare = site.bare(embed)
    if unchanged := site.unchanged(request, model, bare=bare):
        return unchanged
    with site.store.reading(model, run) as reading:
        page = queries.model(reading)
    frame = Frame(
        site.links(model, run),
        json_url=urls.api_model(model, run=run),
        canonical=urls.model(model, run=run),
        embed=bare,
    )
    return site.html(request, "models/model.html", view.ModelContext(frame, page, view.model(page)))


@pages.get("/{model}/{layer}")
def layer_page(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    run: RunId = None,
    picture: PictureStatistic = "max",
    first: From = 0,
    sort: Sort | None = None,
    order: Order | None = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    embed: Embed = None,
) -> Response:
    """A layer: a picture of all its neurons, and a table, sorted by the picture's statistic unless
    `sort` says otherwise."""
    site = site_of(request)
    bare = site.bare(embed)
    if unchanged := site.unchanged(request, model, bare=bare):
        return unchanged
    by = sort or picture
    with site.store.reading(model, run) as reading:
        page = queries.layer(reading, layer, by, default_order(by, order), limit, cursor)
        drawn = queries.picture(reading, layer, picture, first)
    links, named_limit = site.links(model, run), not_default_limit(limit)
    frame = Frame(
        links,
        json_url=urls.api_neurons(
            model, layer, run=run, sort=by, order=order, limit=named_limit, cursor=cursor
        ),
        canonical=urls.layer(model, layer, run=run),
        embed=bare,
    )
    context = view.LayerContext(
        frame=frame,
        page=page,
        picture=drawn,
        view=view.layer(drawn, links.neurons_of_layer(layer)),
        cursor=cursor,
        limit=named_limit,
        sorted={"sort": sort, "order": order},
    )
    return site.html(request, "models/layer.html", context)
