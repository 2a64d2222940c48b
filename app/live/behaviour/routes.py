"""All neurons on a custom text, or on two, as JSON and as a page with a form."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from app.errors import AppError, Invalid
from app.live.behaviour.answer import answer
from app.live.behaviour.schemas import USUAL, BehaviourAnswer, BehaviourText
from app.live.behaviour.view import CHOICES, BehaviourContext, Typed, result
from app.live.elsewhere import Elsewhere
from app.live.engine import Live
from app.live.gate import ERRORS, live_of, only_post
from app.reading.runs import whole_run
from app.runs.queries import run as read_run
from app.schemas import Run, WholeRun
from app.sets import ModelSet
from app.web.forms import MOST_BODY, checked, form_fields, json_as, json_body
from app.web.frame import Frame
from app.web.params import InSet, RunId
from app.web.site import Site, json_of, no_store, site_of

router = APIRouter()

PATH = "/api/v1/models/{model}/behaviour"
TEXT, SECOND = "The text", "The second text"
"""The names of the two texts in errors."""
_ERRORS = ERRORS | {
    404: ERRORS[404] | {"description": "There is no such model, or the server runs without --live."}
}


@router.post(
    PATH,
    response_model=BehaviourAnswer,
    responses=_ERRORS,
    openapi_extra=json_body(BehaviourText),
    tags=["api"],
)
async def by_behaviour(request: Request, model: InSet, run: RunId = None) -> Response:
    """The neurons of all layers that fire most for each token of a custom text and, with a second
    text, those that fire on only one of the two. The server has to run with --live."""
    live, site = live_of(request), site_of(request)
    async with live.places.body(request, 2 * MOST_BODY) as body:
        if isinstance(live, Elsewhere):
            return await live.ask(request, body)
        sent = json_as(BehaviourText, body)
        _, run_of_model = await run_in_threadpool(_read_run, site, model, run)
        result = await _answer(site, live, run_of_model, sent)
        return no_store(await run_in_threadpool(json_of, result))


router.add_api_route(PATH, only_post, include_in_schema=False)


@router.api_route("/{model}/behaviour", methods=["GET", "POST"], include_in_schema=False)
async def behaviour_page(request: Request, model: InSet, run: RunId = None) -> Response:
    """The form and its result."""
    live, site = live_of(request), site_of(request)
    where = (site, model, run)
    if request.method != "POST":
        page, _ = await run_in_threadpool(_read_run, *where)
        return await run_in_threadpool(_form, request, model, page, run, live.tokens)
    async with live.places.body(request, 2 * MOST_BODY) as body:
        if isinstance(live, Elsewhere):
            return await live.ask(request, body)
        page, run_of_model = await run_in_threadpool(_read_run, *where)
        typed, reply, error = Typed(), None, None
        try:
            typed = _typed(form_fields(body))
            reply = await _answer(site, live, run_of_model, _request(typed))
        except AppError as failure:
            error = failure
        form = partial(_form, typed=typed, reply=reply, error=error)
        return await run_in_threadpool(form, request, model, page, run, live.tokens)


def _form(
    request: Request,
    model: ModelSet,
    page: WholeRun,
    run: int | None,
    tokens: int,
    *,
    typed: Typed | None = None,
    reply: BehaviourAnswer | None = None,
    error: AppError | None = None,
) -> Response:
    """The page with the form, for texts of at most `tokens` tokens, and an answer or an error."""
    site = site_of(request)
    links = site.links(model, run)
    layers = site.store.layers_with_units(model, run)
    context = BehaviourContext(
        frame=Frame(links, marks=site.marks(model)),
        page=page,
        layers=len(layers),
        typed=typed or Typed(),
        problem=None if error is None else error.detail,
        result=None if reply is None else result(reply, links, page.run.units, layers),
        most=tokens,
    )
    response = site.html(request, "live/behaviour.html", context)
    return no_store(response, error=error)


def _read_run(site: Site, model: ModelSet, run: int | None) -> tuple[WholeRun, Run]:
    with site.store.reading(model, run) as reading:
        page = whole_run(reading.run)
    return page, read_run(site.store, page.run.id)


async def _answer(site: Site, live: Live, run: Run, sent: BehaviourText) -> BehaviourAnswer:
    """The answer of the model. Raises AppError if a text is refused."""
    texts = {TEXT: checked(sent.text, TEXT)}
    if sent.against is not None:
        texts[SECOND] = checked(sent.against, SECOND)

    def work(opened: Any) -> BehaviourAnswer:
        with site.store.reading(run.model, run.id) as reading:
            return answer(opened, reading, sent)

    return await live.read_all(run, texts, work)


def _typed(fields: dict[str, str]) -> Typed:
    """The fields of the form, with the two texts swapped if the button `turn` sent it."""
    text, against = fields.get("text", ""), fields.get("against", "")
    if "turn" in fields:
        text, against = against, text
    return Typed(
        text=text,
        against=against,
        by=fields.get("by", "maximum"),
        k=fields.get("k", str(USUAL)),
    )


def _request(typed: Typed) -> BehaviourText:
    """The request in a form. Raises Invalid for a choice that the form does not offer."""
    if typed.by not in ("maximum", "percentile"):
        raise Invalid(
            "Activations can be compared by maximum or by percentile: choose one of them."
        )
    choices = list(map(str, CHOICES))
    if typed.k not in choices:
        raise Invalid(f"The number a token has to be one of {', '.join(choices)}.")
    return BehaviourText(
        text=typed.text, against=typed.against or None, by=typed.by, k=int(typed.k)
    )
