"""One attention head on a custom text, as JSON and as a page with a form."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from app.errors import AppError
from app.heads.queries import head as read_head
from app.heads.queries import random_contexts
from app.heads.schemas import HeadPage
from app.live.elsewhere import Elsewhere
from app.live.engine import Live
from app.live.gate import ERRORS, live_of, only_post
from app.live.head.answer import OTHER, TEXT, answer
from app.live.head.schemas import HeadAnswer, HeadText
from app.live.head.view import HeadTryContext, result
from app.live.models import Ready
from app.runs.queries import run as read_run
from app.schemas import Run
from app.sets import ModelSet
from app.web.forms import MOST_BODY, checked, form_fields, json_as, json_body
from app.web.frame import Frame
from app.web.params import HeadIndex, LayerIndex, ModelName, RunId
from app.web.site import Site, json_of, no_store, site_of
from indexer.store.units import HEADS

router = APIRouter()

PATH = "/api/v1/models/{model}/heads/{layer}/{head}/text"
NOTHING = HeadText(text="")
"""The form before anything is typed."""
Contexts = list[tuple[list[int], list[int]]]
"""Token ids and first included position of each."""


@router.post(
    PATH,
    response_model=HeadAnswer,
    responses=ERRORS,
    openapi_extra=json_body(HeadText),
    tags=["api"],
)
async def head_on_text(
    request: Request, model: ModelName, layer: LayerIndex, head: HeadIndex, run: RunId = None
) -> Response:
    """An attention head on a custom text: the patterns of its layer, its direct effects, and
    next-token predictions with the head ablated, or patched from another text. The server has to
    run with --live."""
    live, site = live_of(request), site_of(request)
    async with live.places.body(request, 2 * MOST_BODY) as body:
        if isinstance(live, Elsewhere):
            return await live.ask(request, body)
        sent = json_as(HeadText, body)
        page, whole_run, contexts = await run_in_threadpool(_read, site, model, layer, head, run)
        reply = await _answer(live, whole_run, page, sent, contexts)
        return no_store(await run_in_threadpool(json_of, reply))


router.add_api_route(PATH, only_post, include_in_schema=False)


@router.api_route(
    "/{model}/heads/{layer}/{head}/try", methods=["GET", "POST"], include_in_schema=False
)
async def try_head(
    request: Request, model: ModelName, layer: LayerIndex, head: HeadIndex, run: RunId = None
) -> Response:
    """The form and its result."""
    live, site = live_of(request), site_of(request)
    where = (site, model, layer, head, run)
    if request.method != "POST":
        page, _, _ = await run_in_threadpool(_read, *where)
        return await run_in_threadpool(_form, request, page, run, live.tokens)
    async with live.places.body(request, 2 * MOST_BODY) as body:
        if isinstance(live, Elsewhere):
            return await live.ask(request, body)
        page, whole_run, contexts = await run_in_threadpool(_read, *where)
        typed, error, reply = NOTHING, None, None
        try:
            fields = form_fields(body)
            typed = HeadText(text=fields.get("text", ""), patch=fields.get("patch") or None)
            reply = await _answer(live, whole_run, page, typed, contexts)
        except AppError as failure:
            error = failure
        form = partial(_form, typed=typed, error=error, reply=reply)
        return await run_in_threadpool(form, request, page, run, live.tokens)


def _form(
    request: Request,
    page: HeadPage,
    run: int | None,
    tokens: int,
    *,
    typed: HeadText = NOTHING,
    error: AppError | None = None,
    reply: HeadAnswer | None = None,
) -> Response:
    """The page with the form, for texts of at most `tokens` tokens, and an answer or an error."""
    site = site_of(request)
    links = site.links(ModelSet(page.model, HEADS), run)
    view = None
    if reply is not None:
        view = result(
            reply, lambda number: links.neuron(page.layer, number), page.run.units.no_writes
        )
    context = HeadTryContext(
        frame=Frame(links),
        page=page,
        form=links.try_text(page.layer, page.head),
        typed=typed,
        most=tokens,
        problem=None if error is None else error.detail,
        result=view,
    )
    response = site.html(request, "live/head.html", context)
    return no_store(response, error=error)


async def _answer(
    live: Live, run: Run, page: HeadPage, sent: HeadText, contexts: Contexts
) -> HeadAnswer:
    """The answer of the model. Raises AppError if a text is refused."""
    checked(sent.text, TEXT)
    if sent.patch is not None:
        checked(sent.patch, OTHER)

    def work(ready: Ready) -> HeadAnswer:
        return answer(ready, run, page, sent, contexts, live.tokens)

    return await live.with_model(run, work)


def _read(
    site: Site, model: str, layer: int, head: int, run: int | None
) -> tuple[HeadPage, Run, Contexts]:
    with site.store.reading(ModelSet(model, HEADS), run) as reading:
        page = read_head(reading, layer, head)
        contexts = random_contexts(reading, page)
    return page, read_run(site.store, page.run.id), contexts
