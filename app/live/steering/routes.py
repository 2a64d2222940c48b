"""Steering a text with a unit and others of its set, as JSON and as a page with a form."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.concurrency import run_in_threadpool

from app.errors import AppError, Invalid
from app.live.gate import ERRORS, live_of
from app.live.steering.answer import Place
from app.live.steering.schemas import EXAMPLE, SteeringAnswer, SteeringText
from app.live.steering.typed import Typed, typed_of
from app.live.steering.view import SteerContext, box
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

PATH = "/api/v1/models/{model}/layers/{layer}/neurons/{neuron}/steering"


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
    sent = json_as(SteeringText, await body_of(request, MOST_BODY), EXAMPLE)
    checked(sent.text)
    page, whole_run, largest = await run_in_threadpool(_read, site, model, layer, neuron, run, sent)
    return no_store(json_of(await live.steer(whole_run, page, largest, sent)))


@router.get(PATH, include_in_schema=False)
def only_post() -> Response:
    """Refuse GET, since a text has to be sent."""
    raise HTTPException(405, headers={"Allow": "POST"})


@router.api_route(
    "/{model}/{layer}/{neuron}/steer", methods=["GET", "POST"], include_in_schema=False
)
async def steer_page(
    request: Request, model: InSet, layer: LayerIndex, neuron: NeuronIndex, run: RunId = None
) -> Response:
    """The form and its result."""
    live, site = live_of(request), site_of(request)
    page, whole_run, _ = await run_in_threadpool(_read, site, model, layer, neuron, run, None)
    links = await run_in_threadpool(site.links, model, run)
    typed, error, answer = Typed(), None, None
    if request.method == "POST":
        try:
            typed = typed_of(form_fields(await body_of(request, MOST_BODY)))
            sent = typed.request()
            checked(sent.text)
            _, _, largest = await run_in_threadpool(_read, site, model, layer, neuron, run, sent)
            answer = await live.steer(whole_run, page, largest, sent)
        except AppError as failure:
            error = failure
    problem = None if error is None else error.detail
    form = box(page, live.tokens, links, typed=typed, problem=problem, answer=answer)
    response = site.html(request, "live/steer.html", SteerContext(Frame(links), page, form))
    if error is not None:
        response.status_code = error.status
        response.headers.update(error.headers)
    return no_store(response)


def _read(
    site: Site,
    model: ModelSet,
    layer: int,
    neuron: int,
    run: int | None,
    sent: SteeringText | None,
) -> tuple[NeuronPage, Run, dict[Place, float]]:
    """The unit, its run, and the largest magnitude of every unit that is asked for. Raises
    NotFound, and Invalid for a unit that cannot steer."""
    with site.store.reading(model, run) as reading:
        page = read_neuron(reading, layer, neuron)
        pages = [page]
        if sent is not None:
            if page.run.units.no_writes:
                raise Invalid(f"Nothing can be steered here. {page.run.units.no_writes}")
            pages += [read_neuron(reading, also.layer, also.neuron) for also in sent.also]
    largest = {}
    for each in pages:
        ends = (each.stats.max, -each.stats.min if each.run.units.signed else 0.0)
        largest[each.layer, each.neuron] = max(ends)
        if sent is not None and max(ends) <= 0:
            name = each.run.units.label(each.neuron)
            raise Invalid(
                f"The {name} of layer {each.layer} is never above 0 in the corpus, so strengths "
                "have no unit: choose another."
            )
    return page, read_run(site.store, page.run.id), largest
