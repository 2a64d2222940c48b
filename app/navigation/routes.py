"""/go, which redirects to the page that a typed text names; random neurons; /help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from app.navigation.find import page_of
from app.navigation.queries import random_neuron
from app.reading.statistics import DEAD
from app.schemas import DEFAULT_VIEW, View
from app.sets import ModelSet
from app.web import urls
from app.web.frame import Frame
from app.web.links import Links
from app.web.params import InSet, LayerIndex, RunId, ViewQuery
from app.web.site import NO_STORE, site_of
from indexer.store.units import SET_NAME

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class HelpContext:
    """What `navigation/help.html` is rendered with."""

    frame: Frame
    dead: str
    """When a unit is dead."""


@router.get("/go")
def go(
    request: Request,
    to: str = "",
    model: str | None = None,
    set: Annotated[str | None, Query(pattern=f"^{SET_NAME.pattern}$")] = None,
    run: RunId = None,
    view: Annotated[View | None, Query()] = None,
) -> Response:
    """Redirect to the page that a text names, typed on a page of `model`, `set`, `run` and
    `view`."""
    page = None if model is None else ModelSet(model, set)
    target = page_of(site_of(request).store, to, page, run, view)
    return RedirectResponse(target, 307, headers=NO_STORE)


@router.get("/help")
def help_page(request: Request) -> Response:
    """The help page: keys, colours, words."""
    site = site_of(request)
    if unchanged := site.unchanged(request, None):
        return unchanged
    return site.html(
        request, "navigation/help.html", HelpContext(Frame(canonical=urls.help_page()), DEAD)
    )


@router.get("/random")
def random_of_all(request: Request) -> Response:
    """A random neuron of all models."""
    return _to_random(request, None, None, None, DEFAULT_VIEW)


@router.get("/{model}/random")
def random_of_model(
    request: Request, model: InSet, run: RunId = None, view: ViewQuery = DEFAULT_VIEW
) -> Response:
    """A random neuron of a model."""
    return _to_random(request, model, None, run, view)


@router.get("/{model}/{layer}/random")
def random_of_layer(
    request: Request,
    model: InSet,
    layer: LayerIndex,
    run: RunId = None,
    view: ViewQuery = DEFAULT_VIEW,
) -> Response:
    """A random neuron of a layer."""
    return _to_random(request, model, layer, run, view)


def _to_random(
    request: Request, model: ModelSet | None, layer: int | None, run: int | None, view: View
) -> Response:
    name, place = random_neuron(site_of(request).store, model, layer, run)
    # The address names the run if the request did, even if it is the default one.
    links = Links(name, run, None if view == DEFAULT_VIEW else view)
    return RedirectResponse(links.neuron_ref(place), 307, headers=NO_STORE)
