"""All neurons on a visitor's text, or on two: as JSON, and as a page that works as a form."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.concurrency import run_in_threadpool

from app.errors import AppError, Invalid
from app.live.behaviour.answer import answer
from app.live.behaviour.schemas import USUAL, BehaviourAnswer, BehaviourText
from app.live.behaviour.view import CHOICES, BehaviourContext, Typed, result
from app.live.engine import Live
from app.live.gate import ERRORS, live_of
from app.reading.runs import whole_run
from app.runs.queries import run as read_run
from app.schemas import Run, WholeRun
from app.web.forms import MOST_BODY, body_of, checked, form_fields, json_as, json_body
from app.web.frame import Frame
from app.web.params import RunId
from app.web.site import Site, json_of, no_store, site_of

router = APIRouter()

PATH = "/api/v1/models/{model}/behaviour"
TEXT, SECOND = "The text", "The second text"
"""The names of the two texts in errors."""
_ERRORS = ERRORS | {404: ERRORS[404] | {"description": "No such model, or not a live server."}}


@router.post(
    PATH,
    response_model=BehaviourAnswer,
    responses=_ERRORS,
    openapi_extra=json_body(BehaviourText),
    tags=["api"],
)
async def by_behaviour(request: Request, model: str, run: RunId = None) -> Response:
    """The neurons that fire most for each token of a text of yours, over all layers, where the
    server runs with --live; of two texts also those that fire on one of them alone."""
    live, site = live_of(request), site_of(request)
    asked = json_as(BehaviourText, await body_of(request, 2 * MOST_BODY))
    _, run_of_model = await run_in_threadpool(_read_run, site, model, run)
    found = await _answer(site, live, run_of_model, asked)
    return no_store(await run_in_threadpool(json_of, found))


@router.get(PATH, include_in_schema=False)
def only_post() -> Response:
    """A text has to be sent."""
    raise HTTPException(405, headers={"Allow": "POST"})


@router.api_route("/{model}/behaviour", methods=["GET", "POST"], include_in_schema=False)
async def behaviour_page(request: Request, model: str, run: RunId = None) -> Response:
    """The form, and its result."""
    live, site = live_of(request), site_of(request)
    page, run_of_model = await run_in_threadpool(_read_run, site, model, run)
    links = await run_in_threadpool(site.links, model, run)
    typed, found, error = Typed(), None, None
    if request.method == "POST":
        try:
            typed = _typed(form_fields(await body_of(request, 2 * MOST_BODY)))
            found = await _answer(site, live, run_of_model, _asked(typed))
        except AppError as failure:
            error = failure

    def render() -> Response:
        context = BehaviourContext(
            frame=Frame(links),
            page=page,
            typed=typed,
            problem=None if error is None else error.detail,
            result=None if found is None else result(found, links),
            most=live.tokens,
        )
        return site.html(request, "live/behaviour.html", context)

    response = await run_in_threadpool(render)
    if error is not None:
        response.status_code = error.status
        response.headers.update(error.headers)
    return no_store(response)


def _read_run(site: Site, model: str, run: int | None) -> tuple[WholeRun, Run]:
    with site.store.reading(model, run) as reading:
        page = whole_run(reading.run)
    return page, read_run(site.store, page.run.id)


async def _answer(site: Site, live: Live, run: Run, asked: BehaviourText) -> BehaviourAnswer:
    """What the model does on the texts. Raises AppError if a text is refused."""
    texts = {TEXT: checked(asked.text, TEXT)}
    if asked.against is not None:
        texts[SECOND] = checked(asked.against, SECOND)

    def work(opened: Any) -> BehaviourAnswer:
        with site.store.reading(run.model, run.id) as reading:
            return answer(opened, reading, asked)

    return await live.read_all(run, texts, work)


def _typed(fields: dict[str, str]) -> Typed:
    """A form's fields; with `turn`, which a button sends, the two texts are swapped."""
    text, against = fields.get("text", ""), fields.get("against", "")
    if "turn" in fields:
        text, against = against, text
    return Typed(
        text=text,
        against=against,
        by=fields.get("by", "maximum"),
        k=fields.get("k", str(USUAL)),
    )


def _asked(typed: Typed) -> BehaviourText:
    """The request that a form makes. Raises Invalid for a choice that the form does not have."""
    if typed.by not in ("maximum", "percentile"):
        raise Invalid("Neurons are compared by maximum or by percentile: choose one of them.")
    choices = list(map(str, CHOICES))
    if typed.k not in choices:
        few = ", ".join(choices)
        raise Invalid(f"So many neurons a token cannot be shown: choose one of {few}.")
    return BehaviourText(
        text=typed.text, against=typed.against or None, by=typed.by, k=int(typed.k)
    )
