"""HTML routes: each asks one query and renders one template."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import RedirectResponse

from app.models import view as layer_view
from app.models.schemas import Sort, Statistic, default_order
from app.navigation.routes import to_random
from app.runs import view as provenance
from app.schemas import Order
from app.web import urls
from app.web.links import carried_run, links_of, unusual
from app.web.params import (
    DEFAULT_LIMIT,
    USUAL_VIEW,
    Cursor,
    Embed,
    From,
    LayerIndex,
    Limit,
    NeuronIndex,
    RunId,
    View,
)
from app.web.site import Site


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
                "json_url": urls.api_models(limit=unusual(limit), cursor=cursor),
                "canonical": urls.home(),
            }
            return site.html("models/home.html", page, cursor=cursor, limit=unusual(limit), **links)

        return site.answer(request, None, build)

    @pages.get("/random")
    def random() -> Response:
        """A random neuron of everything."""
        return to_random(site, None, None, None)

    @pages.get("/runs/{run}")
    def run(request: Request, run: Annotated[int, Path(ge=1)]) -> Response:
        """A run's provenance."""

        def build() -> Response:
            page = queries.run(run)
            links: dict[str, Any] = {"json_url": urls.api_run(run), "canonical": urls.run(run)}
            return site.html("runs/run.html", page, view=provenance.tables(page), **links)

        return site.answer(request, None, build)

    @pages.get("/{model}")
    def model(request: Request, model: str, run: RunId = None, embed: Embed = None) -> Response:
        """A model's layers."""
        bare = site.bare(embed)

        def build() -> Response:
            page = queries.model(model, run)
            links = links_of(urls.api_model, urls.model, run, model)
            context: dict[str, Any] = {
                "run_query": carried_run(site, model, run),
                "view": layer_view.model(page),
            }
            return site.html("models/model.html", page, embed=bare, **context, **links)

        return site.answer(request, model, build, bare=bare)

    @pages.get("/{model}/random")
    def random_of_model(model: str, run: RunId = None, view: View = USUAL_VIEW) -> Response:
        """A random neuron of a model."""
        return to_random(site, model, None, run, view)

    @pages.get("/{model}/{layer}")
    def layer(
        request: Request,
        model: str,
        layer: LayerIndex,
        run: RunId = None,
        picture: Statistic = "max",
        first: From = 0,
        sort: Sort | None = None,
        order: Order | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
        embed: Embed = None,
    ) -> Response:
        """A layer's neurons: a picture of all, and a table that begins with its darkest cells."""
        bare = site.bare(embed)

        def build() -> Response:
            by = sort or picture
            way = default_order(by, order)
            page = queries.layer(model, layer, run, by, way, limit, cursor)
            drawn = queries.picture(model, layer, page.run.id, picture, first)
            carried, wanted = carried_run(site, model, run), unusual(limit)
            cells = urls.neurons_of_layer(model, layer, run=carried)
            asked: dict[str, Any] = {
                "sort": by,
                "order": order,
                "limit": wanted,
                "cursor": cursor,
            }
            links: dict[str, Any] = {
                "json_url": urls.api_neurons(model, layer, run=run, **asked),
                "canonical": urls.layer(model, layer, run=run),
            }
            context: dict[str, Any] = {
                "picture": drawn,
                "view": layer_view.layer(drawn, cells),
                "run_query": carried,
                "cursor": cursor,
                "limit": wanted,
                "sorted": {"sort": sort, "order": order},
            }
            return site.html("models/layer.html", page, embed=bare, **context, **links)

        return site.answer(request, model, build, bare=bare)

    @pages.get("/{model}/{layer}/random")
    def random_of_layer(
        model: str, layer: LayerIndex, run: RunId = None, view: View = USUAL_VIEW
    ) -> Response:
        """A random neuron of a layer."""
        return to_random(site, model, layer, run, view)

    @pages.get("/{model}/{layer}/{neuron}.html")
    def neuroscope(
        model: str, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
    ) -> Response:
        """Neuroscope's own addresses."""
        return RedirectResponse(urls.neuron(model, layer, neuron, run=run), 308)

    return pages
