"""The list of models, a model, a layer: as pages and as JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from app.errors import Invalid
from app.heads.picture import heads_view
from app.heads.queries import heads as read_heads
from app.heads.scores import DEFAULT, SCORES
from app.models import queries, view
from app.models.schemas import (
    DEFAULT_AXES,
    Gallery,
    LayerPicture,
    LayerScatter,
    ModelList,
    ModelPage,
    NeuronList,
    PictureStatistic,
    ScatterStatistic,
    Sort,
    default_order,
)
from app.schemas import Order
from app.sets import ModelSet
from app.web import api_urls, urls
from app.web.answers import listing, single, with_inner_notes, with_notes
from app.web.frame import Frame
from app.web.links import Links
from app.web.params import (
    DEFAULT_LIMIT,
    ERRORS,
    LISTS,
    Cursor,
    Embed,
    Fields,
    InSet,
    LayerIndex,
    Limit,
    RunId,
    not_default_limit,
)
from app.web.site import site_of
from indexer.store.units import HEADS

api = APIRouter(prefix="/api/v1", tags=["api"], responses=ERRORS)
pages = APIRouter(include_in_schema=False)

From = Annotated[
    int,
    Query(
        alias="from",
        ge=0,
        description="The first neuron; a plot or grid has 4,096 at most.",
    ),
]

By = Annotated[
    str,
    Query(alias="by", max_length=40, description="The score that colours the picture of heads."),
]


@api.get("/models", response_model=ModelList, responses=LISTS)
def models(
    request: Request, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None, fields: Fields = None
) -> Response:
    """The models, by name."""
    site = site_of(request)
    if unchanged := site.unchanged(request, None):
        return unchanged
    return listing(request, queries.models(site.store, limit, cursor), fields)


@api.get("/models/{model}", response_model=ModelPage)
def model(request: Request, model: InSet, run: RunId = None, fields: Fields = None) -> Response:
    """A model: its layers in numbers, and its runs."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model):
        return unchanged
    with site.store.reading(model, run) as reading:
        return single(request, queries.model(reading), fields)


@api.get("/models/{model}/gallery", response_model=Gallery, responses=LISTS)
def gallery(request: Request, model: InSet, run: RunId = None, fields: Fields = None) -> Response:
    """Twelve neurons worth a first look, with the rules that chose them."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model, beside=[site.marks(model).version]):
        return unchanged
    with site.store.reading(model, run) as reading:
        page = queries.gallery(reading)
    return listing(request, with_inner_notes(request, page, [str(model)] * len(page.items)), fields)


@api.get("/models/{model}/layers/{layer}/neurons", response_model=NeuronList, responses=LISTS)
def neurons(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    run: RunId = None,
    sort: Sort = "neuron",
    order: Order | None = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    fields: Fields = None,
) -> Response:
    """A page of a layer's neurons, in any order."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model, beside=[site.marks(model).version]):
        return unchanged
    direction = default_order(sort, order)
    with site.store.reading(model, run) as reading:
        page = queries.layer(reading, layer, sort, direction, limit, cursor).neurons
    return listing(request, with_notes(request, page, model), fields)


@api.get("/models/{model}/layers/{layer}/picture", response_model=LayerPicture)
def picture(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    run: RunId = None,
    stat: PictureStatistic = "max",
    first: From = 0,
    fields: Fields = None,
) -> Response:
    """A statistic of all neurons of a layer, as its picture shows it."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model):
        return unchanged
    with site.store.reading(model, run) as reading:
        return single(request, queries.picture(reading, layer, stat, first), fields)


@api.get("/models/{model}/layers/{layer}/scatter", response_model=LayerScatter, responses=LISTS)
def scatter(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    run: RunId = None,
    x: ScatterStatistic = DEFAULT_AXES[0],
    y: ScatterStatistic = DEFAULT_AXES[1],
    first: From = 0,
    fields: Fields = None,
) -> Response:
    """Two statistics of a layer's live neurons, as its scatter plot shows them."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model):
        return unchanged
    with site.store.reading(model, run) as reading:
        return listing(request, queries.scatter(reading, layer, x, y, first), fields, of="dots")


@pages.get("/")
def home_page(request: Request, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Response:
    """The list of models."""
    site = site_of(request)
    # Before the runs that the ETag names: a model that appears meanwhile has no marks yet.
    names = queries.names(site.store, limit, cursor) if site.note_marks else []
    marks = site.marks(*names)
    if unchanged := site.unchanged(request, None, beside=[marks.version]):
        return unchanged
    page = queries.models(site.store, limit, cursor)
    named_limit = not_default_limit(limit)
    frame = Frame(
        json_url=api_urls.models(limit=named_limit, cursor=cursor),
        canonical=urls.home(),
        description="Every neuron, latent and head of a language model, shown through the text "
        "that activates it.",
        marks=marks,
    )
    shown = queries.galleries(site.store, [item.model for item in page.items]) if page.items else []
    groups = view.gallery([(one, Links(one.model)) for one in shown])
    layers = {
        item.model: len(site.store.layers_with_units(item.model, None)) for item in page.items
    }
    sets = queries.sets(site.store, list(layers))
    context = view.HomeContext(frame, page, layers, sets, groups, cursor, named_limit)
    return site.html(request, "models/home.html", context)


@pages.get("/{model}")
def model_page(
    request: Request, model: InSet, run: RunId = None, by: By = DEFAULT, embed: Embed = None
) -> Response:
    """A model's layers, with a picture of its attention heads; of a model of which heads alone are
    indexed, the page of its heads."""
    if by not in SCORES:
        raise Invalid(f"There is no score {by!r}: the scores are {', '.join(SCORES)}.")
    site = site_of(request)
    bare = embed is not None
    marks = site.marks(model)
    if unchanged := site.unchanged(request, model, beside=[marks.version], bare=bare):
        return unchanged
    with site.store.reading(model, run) as reading:
        if reading.run.set_name == HEADS:
            return RedirectResponse(urls.model(ModelSet(model.model, HEADS), run=run), 307)
        page = queries.model(reading)
        shown = queries.gallery(reading)
    links = site.links(model, run)
    frame = Frame(
        links,
        json_url=api_urls.model(model, run=run),
        canonical=urls.model(model, run=run),
        embed=bare,
        description=view.description(page),
        marks=marks,
    )
    groups = view.gallery([(shown, links)])
    of_heads = None
    if model.set is None and not bare and any(one.run.units.set == HEADS for one in page.sets):
        name = ModelSet(model.model, HEADS)
        with site.store.reading(name, None) as reading:
            heads = read_heads(reading)

        def address(score: str) -> str:
            return urls.model(model, by=score, run=run) + "#heads"

        of_heads = heads_view(heads, by, site.links(name, None), address)
    context = view.ModelContext(frame, page, view.model(page), groups, site.live, of_heads)
    return site.html(request, "models/model.html", context)


@pages.get("/{model}/{layer}")
def layer_page(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    run: RunId = None,
    picture: PictureStatistic | None = None,
    x: ScatterStatistic = DEFAULT_AXES[0],
    y: ScatterStatistic = DEFAULT_AXES[1],
    first: From = 0,
    sort: Sort | None = None,
    order: Order | None = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    embed: Embed = None,
) -> Response:
    """A layer: its neurons as a scatter plot of two statistics (with `picture`, as a grid of one),
    and a table, sorted by the grid's statistic or by the maximum unless `sort` says otherwise."""
    site = site_of(request)
    bare, marks = embed is not None, site.marks(model)
    if unchanged := site.unchanged(request, model, beside=[marks.version], bare=bare):
        return unchanged
    by = sort or picture or "max"
    with site.store.reading(model, run) as reading:
        page = queries.layer(reading, layer, by, default_order(by, order), limit, cursor)
        present = [at for at, width in enumerate(reading.run.widths) if width]
        drawn = None if picture is None else queries.picture(reading, layer, picture, first)
        plotted = queries.scatter(reading, layer, x, y, first) if picture is None else None
    links, named_limit = site.links(model, run), not_default_limit(limit)
    frame = Frame(
        links,
        json_url=api_urls.neurons(
            model, layer, run=run, sort=by, order=order, limit=named_limit, cursor=cursor
        ),
        canonical=urls.layer(model, layer, run=run),
        embed=bare,
        description=view.layer_description(page),
        marks=marks,
    )
    context = view.LayerContext(
        frame=frame,
        page=page,
        picture=drawn,
        view=None if drawn is None else view.layer(drawn, links.neurons_of_layer(layer)),
        plot=None
        if plotted is None
        else view.plot(plotted, links.neurons_of_layer(layer), page.run.units.noun),
        cursor=cursor,
        limit=named_limit,
        shown=view.shown(drawn, plotted),
        sorted={"sort": sort, "order": order},
        beside=view.beside(layer, present),
        measured=view.measured(page),
    )
    return site.html(request, "models/layer.html", context)
