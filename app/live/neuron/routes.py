"""One neuron on a custom text, as JSON and as a page with a form."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from app.errors import AppError
from app.live.elsewhere import Elsewhere
from app.live.gate import ERRORS, live_of, only_post
from app.live.neuron.schemas import LiveAnswer, LiveText
from app.live.neuron.view import TryContext, box
from app.neurons.queries import neuron as read_neuron
from app.neurons.schemas import NeuronPage
from app.runs.queries import run as read_run
from app.schemas import Run
from app.sets import ModelSet
from app.web.forms import MOST_BODY, checked, form_fields, json_as, json_body
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
    async with live.places.body(request, MOST_BODY) as body:
        if isinstance(live, Elsewhere):
            return await live.ask(request, body)
        text = checked(json_as(LiveText, body).text)
        page, whole_run = await run_in_threadpool(_read, site, model, layer, neuron, run)
        return no_store(json_of(await live.read(whole_run, page, text)))


router.add_api_route(PATH, only_post, include_in_schema=False)


@router.api_route("/{model}/{layer}/{neuron}/try", methods=["GET", "POST"], include_in_schema=False)
async def try_page(
    request: Request, model: InSet, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
) -> Response:
    """The form and its result, for browsers without scripts. With scripts, the neuron's page takes
    the result from here."""
    live, site = live_of(request), site_of(request)
    where = (site, model, layer, neuron, run)
    if request.method != "POST":
        page, _ = await run_in_threadpool(_read, *where)
        return await run_in_threadpool(_form, request, model, page, run, live.tokens)
    async with live.places.body(request, MOST_BODY) as body:
        if isinstance(live, Elsewhere):
            return await live.ask(request, body)
        page, whole_run = await run_in_threadpool(_read, *where)
        text, error, answer = "", None, None
        try:
            text = form_fields(body).get("text", "")
            answer = await live.read(whole_run, page, checked(text))
        except AppError as failure:
            error = failure
        form = partial(_form, text=text, error=error, answer=answer)
        return await run_in_threadpool(form, request, model, page, run, live.tokens)


def _form(
    request: Request,
    model: ModelSet,
    page: NeuronPage,
    run: int | None,
    tokens: int,
    *,
    text: str = "",
    error: AppError | None = None,
    answer: LiveAnswer | None = None,
) -> Response:
    """The page with the form, for texts of at most `tokens` tokens, and an answer or an error."""
    site = site_of(request)
    links = site.links(model, run)
    problem = None if error is None else error.detail
    form = box(page, tokens, links, text=text, problem=problem, answer=answer)
    response = site.html(request, "live/try.html", TryContext(Frame(links), page, form))
    return no_store(response, error=error)


def _read(
    site: Site, model: ModelSet, layer: int, neuron: int, run: int | None
) -> tuple[NeuronPage, Run]:
    with site.store.reading(model, run) as reading:
        page = read_neuron(reading, layer, neuron)
    return page, read_run(site.store, page.run.id)
