"""Steering a text with a unit and others of its set, as JSON and as a page with a form."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from app.errors import AppError, Invalid
from app.live.elsewhere import Elsewhere
from app.live.gate import ERRORS, live_of, only_post
from app.live.steering.answer import Place, Steerable
from app.live.steering.schemas import EXAMPLE, SteeringAnswer, SteeringText
from app.live.steering.typed import Typed, typed_of
from app.live.steering.view import SteerContext, box
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

PATH = "/api/v1/models/{model}/layers/{layer}/neurons/{neuron}/steering"
NOTHING = Typed()
"""The form before anything is typed."""


@router.post(
    PATH,
    response_model=SteeringAnswer,
    responses=ERRORS,
    openapi_extra=json_body(SteeringText),
    tags=["api"],
)
async def steering(
    request: Request, model: InSet, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
) -> Response:
    """What the model writes after a custom text, with one or several units' directions added to the
    residual stream, and without. The server has to run with --live."""
    live, site = live_of(request), site_of(request)
    async with live.places.body(request, MOST_BODY) as body:
        if isinstance(live, Elsewhere):
            return await live.ask(request, body)
        sent = json_as(SteeringText, body, EXAMPLE)
        checked(sent.text)
        where = (site, model, layer, neuron, run)
        page, whole_run, known = await run_in_threadpool(_read, *where, sent)
        return no_store(json_of(await live.steer(whole_run, page, known, sent)))


router.add_api_route(PATH, only_post, include_in_schema=False)


@router.api_route(
    "/{model}/{layer}/{neuron}/steer", methods=["GET", "POST"], include_in_schema=False
)
async def steer_page(
    request: Request, model: InSet, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
) -> Response:
    """The form and its result."""
    live, site = live_of(request), site_of(request)
    where = (site, model, layer, neuron, run)
    if request.method != "POST":
        page, _, _ = await run_in_threadpool(_read, *where, None)
        return await run_in_threadpool(_form, request, model, page, run, live.tokens)
    async with live.places.body(request, MOST_BODY) as body:
        if isinstance(live, Elsewhere):
            return await live.ask(request, body)
        page, whole_run, _ = await run_in_threadpool(_read, *where, None)
        typed, error, answer = NOTHING, None, None
        try:
            typed = typed_of(form_fields(body))
            sent = typed.request()
            checked(sent.text)
            _, _, known = await run_in_threadpool(_read, *where, sent)
            answer = await live.steer(whole_run, page, known, sent)
        except AppError as failure:
            error = failure
        form = partial(_form, typed=typed, error=error, answer=answer)
        return await run_in_threadpool(form, request, model, page, run, live.tokens)


def _form(
    request: Request,
    model: ModelSet,
    page: NeuronPage,
    run: int | None,
    tokens: int,
    *,
    typed: Typed = NOTHING,
    error: AppError | None = None,
    answer: SteeringAnswer | None = None,
) -> Response:
    """The page with the form, for texts of at most `tokens` tokens, and an answer or an error."""
    site = site_of(request)
    links = site.links(model, run)
    problem = None if error is None else error.detail
    form = box(page, tokens, links, typed=typed, problem=problem, answer=answer)
    response = site.html(request, "live/steer.html", SteerContext(Frame(links), page, form))
    return no_store(response, error=error)


def _read(
    site: Site,
    model: ModelSet,
    layer: int,
    neuron: int,
    run: int | None,
    sent: SteeringText | None,
) -> tuple[NeuronPage, Run, dict[Place, Steerable]]:
    """The unit, its run, and what is known of every unit that is asked for. Raises
    NotFound, and Invalid for a unit that cannot steer."""
    with site.store.reading(model, run) as reading:
        page = read_neuron(reading, layer, neuron)
        pages = [page]
        if sent is not None:
            if page.run.units.no_writes:
                raise Invalid(f"Nothing can be steered here. {page.run.units.no_writes}")
            pages += [read_neuron(reading, also.layer, also.neuron) for also in sent.also]
    known = {}
    for each in pages:
        ends = (each.stats.max, -each.stats.min if each.run.units.signed else 0.0)
        known[each.layer, each.neuron] = Steerable(max(ends), each.name)
        if sent is not None and max(ends) <= 0:
            name = each.run.units.label(each.neuron, each.name)
            raise Invalid(
                f"The {name} of layer {each.layer} is never above 0 in the corpus, so strengths "
                "have no unit: choose another."
            )
    return page, read_run(site.store, page.run.id), known
