"""HTML routes: each asks one query and renders one template."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import RedirectResponse

from app.api import (
    DEFAULT_LIMIT,
    Cursor,
    From,
    LayerIndex,
    Limit,
    NeuronIndex,
    RunId,
    default_order,
)
from app.examples.lines import Reading
from app.models import view as layer_view
from app.models.schemas import Order, Sort, Statistic
from app.runs import view as provenance
from app.web import urls
from app.web.site import NO_STORE, Site

Embed = Annotated[Literal["1"] | None, Query()]
"""Whether a bare page is asked for, to be shown in another site's frame."""
View = Annotated[Reading, Query()]
"""How a neuron's examples are laid out."""
USUAL_VIEW: Reading = "peak"
"""The view that links need not name."""


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
            return site.html(
                "models/home.html", page, cursor=cursor, limit=_unusual(limit), **links
            )

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
        return _to_random(site, model, None, run, view)

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
            carried, unusual = carried_run(site, model, run), _unusual(limit)
            cells = urls.neurons_of_layer(model, layer, run=carried)
            asked: dict[str, Any] = {"sort": by, "order": order, "limit": unusual, "cursor": cursor}
            links: dict[str, Any] = {
                "json_url": urls.api_neurons(model, layer, run=run, **asked),
                "canonical": urls.layer(model, layer, run=run),
            }
            context: dict[str, Any] = {
                "picture": drawn,
                "view": layer_view.layer(drawn, cells),
                "run_query": carried,
                "cursor": cursor,
                "limit": unusual,
                "sorted": {"sort": sort, "order": order},
            }
            return site.html("models/layer.html", page, embed=bare, **context, **links)

        return site.answer(request, model, build, bare=bare)

    @pages.get("/{model}/{layer}/random")
    def random_of_layer(
        model: str, layer: LayerIndex, run: RunId = None, view: View = USUAL_VIEW
    ) -> Response:
        """A random neuron of a layer."""
        return _to_random(site, model, layer, run, view)

    @pages.get("/{model}/{layer}/{neuron}.html")
    def neuroscope(
        model: str, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
    ) -> Response:
        """Neuroscope's own addresses."""
        return RedirectResponse(urls.neuron(model, layer, neuron, run=run), 308)

    return pages


def _to_random(
    site: Site, model: str | None, layer: int | None, run: int | None, view: View = USUAL_VIEW
) -> Response:
    name, place = site.queries.random(model, layer, run)
    target = urls.neuron_ref(name, place, run=run, view=carried_view(view))
    return RedirectResponse(target, 307, headers=NO_STORE)


def links_of(api: Any, page: Any, run: int | None, *place: str | int) -> dict[str, Any]:
    """The addresses of a page's JSON and of the page itself, without how it is laid out."""
    return {"json_url": api(*place, run=run), "canonical": page(*place, run=run)}


def _unusual(limit: int) -> int | None:
    """The limit that links must go on naming: none, where it is the usual one."""
    return None if limit == DEFAULT_LIMIT else limit


def carried_view(view: Reading) -> Reading | None:
    """The view that links must go on naming: none, where it is the usual one."""
    return None if view == USUAL_VIEW else view


def carried_run(site: Site, model: str, run: int | None) -> int | None:
    """The run that links must go on naming: none, where it is the model's default one."""
    return None if run is None or site.queries.is_default(model, run) else run
