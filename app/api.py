"""JSON routes under /api/v1: the same objects as the pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.models.schemas import (
    LayerPicture,
    ModelList,
    ModelPage,
    NeuronList,
    Sort,
    Statistic,
    default_order,
)
from app.neurons.schemas import ContextPage, NeuronPage
from app.schemas import Order, Run
from app.web.params import (
    DEFAULT_LIMIT,
    ERRORS,
    ContextId,
    Cursor,
    From,
    LayerIndex,
    Limit,
    NeuronIndex,
    RunId,
)
from app.web.site import Site, json_of


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
