"""HTML routes: each asks one query and renders one template."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import RedirectResponse

from app import present, urls
from app.api import Cursor, LayerIndex, Limit, NeuronIndex, RunId, default_order
from app.schemas import Order, RunRef, Sort
from app.site import NO_STORE, Site


def router(site: Site) -> APIRouter:
    """The pages' routes. Fixed addresses come before those of models."""
    pages = APIRouter(include_in_schema=False)
    queries = site.queries

    @pages.get("/")
    def home(request: Request, limit: Limit = 100, cursor: Cursor = None) -> Response:
        """The list of models."""

        def build() -> Response:
            page = queries.models(limit, cursor)
            links: dict[str, Any] = {"json_url": urls.api_models(), "canonical": urls.home()}
            return site.html("home.html", page, cursor=cursor, **links)

        return site.answer(request, None, build)

    @pages.get("/random")
    def random() -> Response:
        """A random neuron of everything."""
        return _to_random(site, None, None, None)

    @pages.get("/runs/{run}")
    def run(request: Request, run: Annotated[int, Path(ge=1)]) -> Response:
        """A run's provenance."""

        def build() -> Response:
            page = queries.run(run)
            links: dict[str, Any] = {"json_url": urls.api_run(run), "canonical": urls.run(run)}
            return site.html("run.html", page, view=present.run(page), **links)

        return site.answer(request, None, build)

    @pages.get("/{model}")
    def model(request: Request, model: str, run: RunId = None) -> Response:
        """A model's layers."""

        def build() -> Response:
            page = queries.model(model, run)
            links = _links(urls.api_model, urls.model, run, model)
            return site.html("model.html", page, run_query=_carried(run, page.other_runs), **links)

        return site.answer(request, model, build)

    @pages.get("/{model}/random")
    def random_of_model(model: str, run: RunId = None) -> Response:
        """A random neuron of a model."""
        return _to_random(site, model, None, run)

    @pages.get("/{model}/{layer}")
    def layer(
        request: Request,
        model: str,
        layer: LayerIndex,
        run: RunId = None,
        sort: Sort = "neuron",
        order: Order | None = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        """A layer's neurons."""

        def build() -> Response:
            way = default_order(sort, order)
            page = queries.layer(model, layer, run, sort, way, limit, cursor)
            carried = _carried(run, page.other_runs)
            links = _links(urls.api_neurons, urls.layer, run, model, layer)
            return site.html("layer.html", page, run_query=carried, cursor=cursor, **links)

        return site.answer(request, model, build)

    @pages.get("/{model}/{layer}/random")
    def random_of_layer(model: str, layer: LayerIndex, run: RunId = None) -> Response:
        """A random neuron of a layer."""
        return _to_random(site, model, layer, run)

    @pages.get("/{model}/{layer}/{neuron}.html")
    def neuroscope(model: str, layer: LayerIndex, neuron: NeuronIndex) -> Response:
        """Neuroscope's own addresses."""
        return RedirectResponse(urls.neuron(model, layer, neuron), 308)

    @pages.get("/{model}/{layer}/{neuron}")
    def neuron(
        request: Request, model: str, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
    ) -> Response:
        """A neuron."""

        def build() -> Response:
            page = queries.neuron(model, layer, neuron, run)
            carried = _carried(run, page.other_runs)
            links = _links(urls.api_neuron, urls.neuron, run, model, layer, neuron)
            view = present.neuron(page)
            return site.html("neuron.html", page, view=view, run_query=carried, **links)

        return site.answer(request, model, build)

    return pages


def _to_random(site: Site, model: str | None, layer: int | None, run: int | None) -> Response:
    name, place = site.queries.random(model, layer, run)
    target = urls.neuron_ref(name, place, run=run)
    return RedirectResponse(target, 307, headers=NO_STORE)


def _links(api: Any, page: Any, run: int | None, *place: str | int) -> dict[str, Any]:
    return {"json_url": api(*place, run=run), "canonical": page(*place, run=run)}


def _carried(run: int | None, others: list[RunRef]) -> int | None:
    """The run that links must go on naming: none, where it is the only one."""
    return run if others else None
