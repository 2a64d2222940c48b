"""The routes that find neurons by what they do on a text: JSON, and a page that works as a form."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.concurrency import run_in_threadpool

from app.errors import AppError, Invalid
from app.live.behaviour import view as behaviour_view
from app.live.behaviour.answer import answer
from app.live.behaviour.schemas import USUAL, BehaviourAnswer, BehaviourText
from app.live.behaviour.view import Typed
from app.live.engine import Live
from app.live.gate import ERRORS, live_of
from app.schemas import NumberGround, Run
from app.web.forms import MOST_BODY, body_of, checked, form_fields, json_as
from app.web.links import carried_run
from app.web.params import RunId
from app.web.site import NO_STORE, Site, json_of

TEXT, SECOND = "The text", "The second text"
"""What errors call them."""
_ANSWERS = ERRORS | {404: ERRORS[404] | {"description": "No such model, or not a live server."}}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": BehaviourText.model_json_schema()}},
    }
}


def behaviour_router(site: Site) -> APIRouter:
    """The routes. They are there also where the server is not live, and say so."""
    routes = APIRouter()
    api_path = "/api/v1/models/{model}/behaviour"

    @routes.post(
        api_path,
        response_model=BehaviourAnswer,
        responses=_ANSWERS,
        openapi_extra=_BODY,
        tags=["api"],
    )
    async def by_behaviour(request: Request, model: str, run: RunId = None) -> Response:
        """The neurons that fire most for each token of a text of yours, over all layers, where the
        server runs with --live; of two texts also those that fire on one of them alone."""
        live = live_of(site, request)
        asked = json_as(BehaviourText, await body_of(request, 2 * MOST_BODY))
        _, whole_run = await run_in_threadpool(_looked_up, site, model, run)
        found = await _read(site, live, whole_run, asked)
        response = await run_in_threadpool(json_of, found)
        response.headers.update(NO_STORE)
        return response

    @routes.get(api_path, include_in_schema=False)
    def only_post() -> Response:
        """A text has to be sent."""
        raise HTTPException(405, headers={"Allow": "POST"})

    @routes.api_route("/{model}/behaviour", methods=["GET", "POST"], include_in_schema=False)
    async def page(request: Request, model: str, run: RunId = None) -> Response:
        """The form, and what came of it."""
        live = live_of(site, request)
        ground, whole_run = await run_in_threadpool(_looked_up, site, model, run)
        carried = await run_in_threadpool(carried_run, site, model, run)
        typed, found, status, headers = Typed(), None, 200, dict(NO_STORE)
        problem = None
        if request.method == "POST":
            try:
                typed = _typed(form_fields(await body_of(request, 2 * MOST_BODY)))
                found = await _read(site, live, whole_run, _asked(typed))
            except AppError as error:
                problem, status = error.detail, error.status
                headers |= error.headers

        def render() -> Response:
            shown = None if found is None else behaviour_view.result(found, carried)
            context: dict[str, Any] = {
                "typed": typed,
                "problem": problem,
                "result": shown,
                "run_query": carried,
                "most": live.tokens,
                "choices": behaviour_view.CHOICES,
            }
            return site.html("live/behaviour.html", ground, status, **context)

        response = await run_in_threadpool(render)
        response.headers.update(headers)
        return response

    return routes


def _looked_up(site: Site, model: str, run: int | None) -> tuple[NumberGround, Run]:
    ground = site.queries.number_ground(model, run)
    return ground, site.queries.run(ground.run.id)


async def _read(site: Site, live: Live, run: Run, asked: BehaviourText) -> BehaviourAnswer:
    """What the model says of the texts asked about. Raises what a text can be refused for."""
    texts = {TEXT: checked(asked.text, TEXT)}
    if asked.against is not None:
        texts[SECOND] = checked(asked.against, SECOND)

    def work(opened: Any) -> BehaviourAnswer:
        with site.queries.reading(run.model, run.id) as reading:
            return answer(opened, reading, asked)

    return await live.read_all(run, texts, work)


def _typed(fields: dict[str, str]) -> Typed:
    """What was typed; with `turn`, which a button of the form sends, the texts changed over."""
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
    """What a form asks for. Raises Invalid for what its choices do not have."""
    if typed.by not in ("maximum", "percentile"):
        raise Invalid("Neurons are compared by maximum or by percentile: choose one of them.")
    choices = list(map(str, behaviour_view.CHOICES))
    if typed.k not in choices:
        few = ", ".join(choices)
        raise Invalid(f"So many neurons a token cannot be shown: choose one of {few}.")
    return BehaviourText(
        text=typed.text, against=typed.against or None, by=typed.by, k=int(typed.k)
    )
