"""A neuron, its examples by source and its whole contexts, as pages and as JSON."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from app.examples.lines import REACH
from app.neurons import queries
from app.neurons.card import card, description
from app.neurons.panels import panels_of
from app.neurons.schemas import ContextPage, NeuronPage
from app.neurons.view import (
    ExampleContext,
    NeuronContext,
    SourcesContext,
    context_view,
    neuron_view,
    sources_view,
)
from app.schemas import DEFAULT_VIEW, View
from app.sets import ModelSet
from app.web import api_urls, urls
from app.web.answers import single
from app.web.frame import Frame
from app.web.params import (
    ALL_TITLES,
    ERRORS,
    Card,
    ChosenView,
    ContextId,
    Fields,
    InSet,
    LayerIndex,
    NeuronIndex,
    RunId,
    Titles,
    ViewQuery,
    view_of,
)
from app.web.site import site_of
from indexer.store.units import HEADS

api = APIRouter(
    prefix="/api/v1/models/{model}/layers/{layer}/neurons/{neuron}", tags=["api"], responses=ERRORS
)
pages = APIRouter(prefix="/{model}/{layer}", include_in_schema=False)

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?")


@api.get("", response_model=NeuronPage)
def neuron(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    neuron: NeuronIndex,
    run: RunId = None,
    fields: Fields = None,
) -> Response:
    """A neuron: statistics, histograms, examples by kind, what its weights say, its notes."""
    site, panels = site_of(request), panels_of(request)
    notes = None if panels.notes is None else panels.notes(model, layer, neuron)
    beside = [] if notes is None else [notes.version]
    if unchanged := site.unchanged(request, model, beside=beside):
        return unchanged
    with site.store.reading(model, run) as reading:
        page = queries.neuron(reading, layer, neuron)
    items = None if notes is None else notes.items
    return single(request, page.model_copy(update={"notes": items}), fields)


@api.get("/contexts/{context}", response_model=ContextPage)
def context(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    neuron: NeuronIndex,
    context: ContextId,
    run: RunId = None,
    fields: Fields = None,
) -> Response:
    """A whole context that is an example of a neuron, with its activations."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model):
        return unchanged
    with site.store.reading(model, run) as reading:
        return single(request, queries.context(reading, layer, neuron, context), fields)


@pages.get("/{neuron}.html")
def neuroscope_page(
    model: InSet, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
) -> Response:
    """Redirect from the form of address that Neuroscope had."""
    return RedirectResponse(urls.neuron(model, layer, neuron, run=run), 308)


@pages.get("/{neuron}")
def neuron_page(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    neuron: NeuronIndex,
    run: RunId = None,
    view: ChosenView = None,
    embed: Card = None,
    titles: Titles = None,
) -> Response:
    """A neuron; with `embed=card`, its summary and first examples alone."""
    site, panels = site_of(request), panels_of(request)
    bare = embed is not None
    notes = None
    if panels.notes is not None and not bare:
        notes = panels.notes(model, layer, neuron)
    layout, origin = view_of(request, view), _origin(request)
    beside = [layout, origin] if notes is None else [layout, origin, notes.version]
    if unchanged := site.unchanged(request, model, beside=beside, bare=bare):
        return unchanged
    with site.store.reading(model, run) as reading:
        if reading.run.set_name == HEADS:  # of a model of which heads alone are indexed
            address = urls.neuron(ModelSet(model.model, HEADS), layer, neuron)
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(address + query, 307)
        page = queries.neuron(reading, layer, neuron, REACH[layout])
    links = site.links(model, run, view or DEFAULT_VIEW)
    frame = Frame(
        links,
        json_url=api_urls.neuron(model, layer, neuron, run=run),
        canonical=urls.neuron(model, layer, neuron, run=run),
        embed=bare,
        description=description(page),
    )
    if embed == "card":
        return site.html(request, "neurons/embedded.html", card(page, links, frame))
    context = NeuronContext(
        frame=frame,
        page=page,
        view=neuron_view(page, layout, links, origin=origin, titled=titles is not None),
        layout=layout,
        titled_url=_titled_url(layout, titles, links.neuron(layer, neuron, titles=ALL_TITLES)),
        origin=origin,
        live=panels.live(page, links) if panels.live is not None and not bare else None,
        notes=notes.box(links) if notes is not None else None,
    )
    return site.html(request, "neurons/neuron.html", context)


@pages.get("/{neuron}/sources")
def sources_page(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    neuron: NeuronIndex,
    run: RunId = None,
    view: ChosenView = None,
    titles: Titles = None,
) -> Response:
    """A neuron's examples by source of the corpus."""
    site = site_of(request)
    layout = view_of(request, view)
    if unchanged := site.unchanged(request, model, beside=[layout]):
        return unchanged
    with site.store.reading(model, run) as reading:
        page = queries.neuron(reading, layer, neuron, REACH[layout])
    links = site.links(model, run, view or DEFAULT_VIEW)
    context = SourcesContext(
        frame=Frame(
            links,
            json_url=api_urls.neuron(model, layer, neuron, run=run),
            canonical=urls.sources(model, layer, neuron, run=run),
        ),
        page=page,
        view=sources_view(page, layout, links, titled=titles is not None),
        layout=layout,
        titled_url=_titled_url(layout, titles, links.sources(layer, neuron, titles=ALL_TITLES)),
    )
    return site.html(request, "neurons/sources.html", context)


@pages.get("/{neuron}/contexts/{context}")
def context_page(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    neuron: NeuronIndex,
    context: ContextId,
    run: RunId = None,
    view: ViewQuery = DEFAULT_VIEW,
) -> Response:
    """A whole context that is an example of a neuron."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model):
        return unchanged
    with site.store.reading(model, run) as reading:
        page = queries.context(reading, layer, neuron, context)
    frame = Frame(
        site.links(model, run, view),
        json_url=api_urls.context(model, layer, neuron, context, run=run),
        canonical=urls.context(model, layer, neuron, context, run=run),
    )
    context_ = ExampleContext(frame, page, context_view(page))
    return site.html(request, "neurons/context.html", context_)


def _titled_url(view: View, titles: str | None, url: str) -> str | None:
    """`url`, of the page with whole titles, unless this page has them, as whole contexts do."""
    return None if titles is not None or view == "context" else url


def _origin(request: Request) -> str:
    """The scheme and host of a request; empty if its Host header is malformed."""
    host = request.headers.get("host", "")
    return f"{request.url.scheme}://{host}" if _HOST.fullmatch(host) else ""
