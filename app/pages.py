"""HTML routes: each asks one query and renders one template."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import RedirectResponse

from app import present, provenance, urls
from app.api import DEFAULT_LIMIT, Cursor, LayerIndex, Limit, NeuronIndex, RunId, default_order
from app.schemas import Order, Sort
from app.site import NO_STORE, Site


def router(site: Site) -> APIRouter:
    """The pages' routes. Fixed addresses come before those of models."""
    pages = APIRouter(include_in_schema=False)
    queries = site.queries

    @pages.get("/")
    def home(request: Request, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Response:
        """The list of models."""

        def build() -> Response:
            page = queries.models(limit, cursor)
            links: dict[str, Any] = {
                "json_url": urls.api_models(limit=_unusual(limit), cursor=cursor),
                "canonical": urls.home(),
            }
            return site.html("home.html", page, cursor=cursor, limit=_unusual(limit), **links)

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
            return site.html("run.html", page, view=provenance.tables(page), **links)

        return site.answer(request, None, build)

    @pages.get("/{model}")
    def model(request: Request, model: str, run: RunId = None) -> Response:
        """A model's layers."""

        def build() -> Response:
            page = queries.model(model, run)
            links = _links(urls.api_model, urls.model, run, model)
            return site.html("model.html", page, run_query=_carried(site, model, run), **links)

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
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Response:
        """A layer's neurons."""

        def build() -> Response:
            way = default_order(sort, order)
            page = queries.layer(model, layer, run, sort, way, limit, cursor)
            carried = _carried(site, model, run)
            asked: dict[str, Any] = {"order": order, "limit": _unusual(limit), "cursor": cursor}
            if sort != "neuron":
                asked["sort"] = sort
            links: dict[str, Any] = {
                "json_url": urls.api_neurons(model, layer, run=run, **asked),
                "canonical": urls.layer(model, layer, run=run),
            }
            context = {"run_query": carried, "cursor": cursor, "limit": asked["limit"]}
            return site.html("layer.html", page, **context, **links)

        return site.answer(request, model, build)

    @pages.get("/{model}/{layer}/random")
    def random_of_layer(model: str, layer: LayerIndex, run: RunId = None) -> Response:
        """A random neuron of a layer."""
        return _to_random(site, model, layer, run)

    @pages.get("/{model}/{layer}/{neuron}.html")
    def neuroscope(
        model: str, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
    ) -> Response:
        """Neuroscope's own addresses."""
        return RedirectResponse(urls.neuron(model, layer, neuron, run=run), 308)

    @pages.get("/{model}/{layer}/{neuron}")
    def neuron(
        request: Request, model: str, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
    ) -> Response:
        """A neuron."""

        def build() -> Response:
            page = queries.neuron(model, layer, neuron, run)
            carried = _carried(site, model, run)
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


def _unusual(limit: int) -> int | None:
    """The limit that links must go on naming: none, where it is the usual one."""
    return None if limit == DEFAULT_LIMIT else limit


def _carried(site: Site, model: str, run: int | None) -> int | None:
    """The run that links must go on naming: none, where it is the model's default one."""
    return None if run is None or site.queries.is_default(model, run) else run
