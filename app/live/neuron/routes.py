"""One neuron on a custom text, as JSON and as a page with a form."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.concurrency import run_in_threadpool

from app.errors import AppError
from app.live.gate import ERRORS, live_of
from app.live.neuron.schemas import LiveAnswer, LiveText
from app.live.neuron.view import TryContext, box
from app.neurons.queries import neuron as read_neuron
from app.neurons.schemas import NeuronPage
from app.runs.queries import run as read_run
from app.schemas import Run
from app.sets import ModelSet
from app.web.forms import MOST_BODY, body_of, checked, form_fields, json_as, json_body
from app.web.frame import Frame
from app.web.params import InSet, LayerIndex, NeuronIndex, RunId
from app.web.site import Site, json_of, no_store, site_of

router = APIRouter()

PATH = "/api/v1/models/{model}/layers/{layer}/neurons/{neuron}/activations"


@router.post(
    PATH,
    response_model=LiveAnswer,
    responses=ERRORS,
    openapi_extra=json_body(LiveText),
    tags=["api"],
)
async def activations(
    request: Request, model: InSet, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
) -> Response:
    """One neuron on a custom text: its activations, and the next-token predictions with and without
    it. The server has to run with --live."""
    live, site = live_of(request), site_of(request)
    text = checked(json_as(LiveText, await body_of(request, MOST_BODY)).text)
    page, whole_run = await run_in_threadpool(_read, site, model, layer, neuron, run)
    return no_store(json_of(await live.read(whole_run, page, text)))


@router.get(PATH, include_in_schema=False)
def only_post() -> Response:
    """Refuse GET, since a text has to be sent."""
    raise HTTPException(405, headers={"Allow": "POST"})


@router.api_route("/{model}/{layer}/{neuron}/try", methods=["GET", "POST"], include_in_schema=False)
async def try_page(
    request: Request, model: InSet, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
) -> Response:
    """The form and its result, for browsers without scripts. With scripts, the neuron's page takes
    the result from here."""
    live, site = live_of(request), site_of(request)
    page, whole_run = await run_in_threadpool(_read, site, model, layer, neuron, run)
    links = await run_in_threadpool(site.links, model, run)
    text, error, answer = "", None, None
    if request.method == "POST":
        try:
            text = form_fields(await body_of(request, MOST_BODY)).get("text", "")
            answer = await live.read(whole_run, page, checked(text))
        except AppError as failure:
            error = failure
    problem = None if error is None else error.detail
    form = box(page, live.tokens, links, text=text, problem=problem, answer=answer)
    response = site.html(request, "live/try.html", TryContext(Frame(links), page, form))
    if error is not None:
        response.status_code = error.status
        response.headers.update(error.headers)
    return no_store(response)


def _read(
    site: Site, model: ModelSet, layer: int, neuron: int, run: int | None
) -> tuple[NeuronPage, Run]:
    with site.store.reading(model, run) as reading:
        page = read_neuron(reading, layer, neuron)
    return page, read_run(site.store, page.run.id)
