"""The routes that put a visitor's text through a model: JSON, and a page that works as a form."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.concurrency import run_in_threadpool

from app.errors import AppError
from app.live.gate import ERRORS, live_of
from app.live.neuron import view as live_view
from app.live.neuron.schemas import LiveAnswer, LiveText
from app.neurons.schemas import NeuronPage
from app.schemas import Run
from app.web.forms import MOST_BODY, body_of, checked, form_fields, json_as
from app.web.links import carried_run
from app.web.params import LayerIndex, NeuronIndex, RunId
from app.web.site import NO_STORE, Site, json_of

_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": LiveText.model_json_schema()}},
    }
}


def live_router(site: Site) -> APIRouter:
    """The routes of the live box. They are there also where the server is not live, and say so."""
    routes = APIRouter()
    api_path = "/api/v1/models/{model}/layers/{layer}/neurons/{neuron}/activations"

    @routes.post(
        api_path, response_model=LiveAnswer, responses=ERRORS, openapi_extra=_BODY, tags=["api"]
    )
    async def activations(
        request: Request, model: str, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
    ) -> Response:
        """One neuron on a text of yours, where the server runs with --live: activations, and the
        next-token prediction with and without the neuron."""
        live = live_of(site, request)
        text = checked(json_as(LiveText, await body_of(request, MOST_BODY)).text)
        page, whole_run = await run_in_threadpool(_looked_up, site, model, layer, neuron, run)
        response = json_of(await live.read(whole_run, page, text))
        response.headers.update(NO_STORE)
        return response

    @routes.get(api_path, include_in_schema=False)
    def only_post() -> Response:
        """A text has to be sent."""
        raise HTTPException(405, headers={"Allow": "POST"})

    @routes.api_route(
        "/{model}/{layer}/{neuron}/try", methods=["GET", "POST"], include_in_schema=False
    )
    async def try_text(
        request: Request, model: str, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
    ) -> Response:
        """The box on a page of its own: what it shows without scripts, and what they take."""
        live = live_of(site, request)
        page, whole_run = await run_in_threadpool(_looked_up, site, model, layer, neuron, run)
        carried = await run_in_threadpool(carried_run, site, model, run)
        text, status, headers = "", 200, dict(NO_STORE)
        problem, answer = None, None
        if request.method == "POST":
            try:
                text = form_fields(await body_of(request, MOST_BODY)).get("text", "")
                answer = await live.read(whole_run, page, checked(text))
            except AppError as error:
                problem, status = error.detail, error.status
                headers |= error.headers
        box = live_view.box(page, live.tokens, carried, text=text, problem=problem, answer=answer)
        response = site.html("live/try.html", page, status, live=box, run_query=carried)
        response.headers.update(headers)
        return response

    return routes


def _looked_up(
    site: Site, model: str, layer: int, neuron: int, run: int | None
) -> tuple[NeuronPage, Run]:
    page = site.queries.neuron(model, layer, neuron, run)
    return page, site.queries.run(page.run.id)
