"""JSON routes under /api/v1: the same objects as the pages."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response

from app.models.schemas import (
    LayerPicture,
    ModelList,
    ModelPage,
    NeuronList,
    Order,
    Sort,
    Statistic,
)
from app.schemas import ContextPage, Error, Health, NeuronPage, Run
from app.web.site import NO_STORE, Site, json_of

LayerIndex = Annotated[int, Path(ge=0, description="Zero-based layer.")]
NeuronIndex = Annotated[int, Path(ge=0, description="Zero-based neuron in its layer.")]
ContextId = Annotated[
    int, Path(ge=0, le=2**63 - 1, description="A context of the run, in corpus order.")
]
RunId = Annotated[
    int | None, Query(ge=1, description="Another run of the model than its default one.")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="Items at most.")]
From = Annotated[
    int, Query(alias="from", ge=0, description="The first neuron of a picture; it holds 4,096.")
]
Cursor = Annotated[str | None, Query(description="The `next` of the page before.")]

DEFAULT_LIMIT = 100

ERRORS: dict[int | str, dict[str, Any]] = {
    304: {"description": "Nothing has changed since the ETag that came as If-None-Match."},
    404: {"model": Error, "description": "What was asked for does not exist."},
    422: {"model": Error, "description": "What was asked cannot be parsed."},
    503: {"model": Error, "description": "The database does not answer."},
}


def default_order(sort: Sort, order: Order | None) -> Order:
    """Neurons count up; statistics are looked at from the largest."""
    return order or ("asc" if sort == "neuron" else "desc")


def router(site: Site) -> APIRouter:
    """The API's routes."""
    api = APIRouter(prefix="/api/v1", tags=["api"], responses=ERRORS)
    queries = site.queries

    @api.get("/models", response_model=ModelList)
    def models(request: Request, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Response:
        """The models here, by name."""
        return site.answer(request, None, lambda: json_of(queries.models(limit, cursor)))

    @api.get("/models/{model}", response_model=ModelPage)
    def model(request: Request, model: str, run: RunId = None) -> Response:
        """One model: its layers in numbers, and its runs."""
        return site.answer(request, model, lambda: json_of(queries.model(model, run)))

    @api.get("/models/{model}/layers/{layer}/neurons", response_model=NeuronList)
    def neurons(
        request: Request,
        model: str,
        layer: LayerIndex,
        run: RunId = None,
        sort: Sort = "neuron",
        order: Order | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Response:
        """A layer's neurons in any order, a page at a time."""

        def build() -> Response:
            way = default_order(sort, order)
            return json_of(queries.layer(model, layer, run, sort, way, limit, cursor).neurons)

        return site.answer(request, model, build)

    @api.get("/models/{model}/layers/{layer}/picture", response_model=LayerPicture)
    def picture(
        request: Request,
        model: str,
        layer: LayerIndex,
        run: RunId = None,
        stat: Statistic = "max",
        first: From = 0,
    ) -> Response:
        """One statistic of all of a layer's neurons: what its picture shows."""
        return site.answer(
            request, model, lambda: json_of(queries.picture(model, layer, run, stat, first))
        )

    @api.get("/models/{model}/layers/{layer}/neurons/{neuron}", response_model=NeuronPage)
    def neuron(
        request: Request, model: str, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
    ) -> Response:
        """One neuron: statistics, histogram, examples by kind, logit effects."""
        return site.answer(
            request, model, lambda: json_of(queries.neuron(model, layer, neuron, run))
        )

    @api.get(
        "/models/{model}/layers/{layer}/neurons/{neuron}/contexts/{context}",
        response_model=ContextPage,
    )
    def context(
        request: Request,
        model: str,
        layer: LayerIndex,
        neuron: NeuronIndex,
        context: ContextId,
        run: RunId = None,
    ) -> Response:
        """One whole context that is an example of a neuron, with its activations."""
        return site.answer(
            request, model, lambda: json_of(queries.context(model, layer, neuron, context, run))
        )

    @api.get("/runs/{run}", response_model=Run)
    def run(request: Request, run: Annotated[int, Path(ge=1)]) -> Response:
        """One run with its provenance in full."""
        return site.answer(request, None, lambda: json_of(queries.run(run)))

    return api


def unknown_router() -> APIRouter:
    """What is under /api and no route: 404, not the page of a model that is called api."""
    unknown = APIRouter(include_in_schema=False)

    @unknown.get("/api")
    @unknown.get("/api/{rest:path}")
    def nothing() -> Response:
        """Nothing is here."""
        raise HTTPException(404)

    return unknown


def health_router(site: Site) -> APIRouter:
    """The one route outside the API's prefix: for load balancers and containers."""
    health = APIRouter(tags=["health"])

    @health.get(
        "/healthz",
        response_model=Health,
        responses={503: {"model": Error, "description": "The database does not answer."}},
    )
    def healthz() -> Response:
        """Whether the server and its database answer."""
        response = json_of(site.queries.health(site.release))
        response.headers.update(NO_STORE)
        return response

    return health
