"""The routes that put a visitor's text through a model: JSON, and a page that works as a form."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app import live_view
from app.api import LayerIndex, NeuronIndex, RunId
from app.errors import AppError, Forbidden, Invalid, NotFound, TooLarge
from app.live import Live
from app.live_schemas import LiveAnswer, LiveText
from app.pages import carried_run
from app.schemas import Error, NeuronPage, Run
from app.site import NO_STORE, Site, json_of

MOST_BYTES = 1 << 16
"""The longest text, in UTF-8: many times what the tokens let through, and soon tokenised."""
MOST_BODY = 8 * MOST_BYTES
"""The largest body: JSON may spell a byte with six."""

ERRORS: dict[int | str, dict[str, Any]] = {
    403: {"model": Error, "description": "A page of another site sent the text."},
    404: {"model": Error, "description": "There is no such neuron, or the server is not live."},
    410: {"model": Error, "description": "The run's model is gone: another is in its place."},
    413: {"model": Error, "description": "The text has too many bytes or tokens."},
    422: {"model": Error, "description": "The text is empty, not UTF-8, or cannot be read."},
    503: {
        "model": Error,
        "description": "Too many texts are waiting (see Retry-After), or the run's model cannot be "
        "loaded here.",
    },
}
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
        live = _live(site, request)
        text = _checked(_json_text(await _body(request)))
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
        live = _live(site, request)
        page, whole_run = await run_in_threadpool(_looked_up, site, model, layer, neuron, run)
        carried = await run_in_threadpool(carried_run, site, model, run)
        text, status, headers = "", 200, dict(NO_STORE)
        problem, answer = None, None
        if request.method == "POST":
            try:
                text = _form_text(await _body(request))
                answer = await live.read(whole_run, page, _checked(text))
            except AppError as error:
                problem, status = error.detail, error.status
                headers |= error.headers
        box = live_view.box(page, live.tokens, carried, text=text, problem=problem, answer=answer)
        response = site.html("try.html", page, status, live=box, run_query=carried)
        response.headers.update(headers)
        return response

    return routes


def _live(site: Site, request: Request) -> Live:
    # Another site's page could not read the answer, but it could let this machine compute.
    if request.headers.get("sec-fetch-site") == "cross-site":
        raise Forbidden("Texts are taken from this site's own pages and from programs alone.")
    if site.live is None:
        raise NotFound(
            "Texts cannot be tried here: this server was started without --live, so that it loads "
            "no model."
        )
    return site.live


def _looked_up(
    site: Site, model: str, layer: int, neuron: int, run: int | None
) -> tuple[NeuronPage, Run]:
    page = site.queries.neuron(model, layer, neuron, run)
    return page, site.queries.run(page.run.id)


async def _body(request: Request) -> bytes:
    """What was sent. Raises TooLarge as soon as it is more than any text can be."""
    refusal = TooLarge(f"What was sent is too long: a text has {MOST_BYTES:,} bytes at most.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 9 or int(length) > MOST_BODY):
        raise refusal
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BODY:
                raise refusal
    except ClientDisconnect:  # nobody will see this answer
        raise Invalid("What was sent broke off.") from None
    return bytes(body)


def _json_text(body: bytes) -> str:
    try:
        written = body.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"The body is not UTF-8: byte {error.start} cannot be read.") from None
    try:
        return LiveText.model_validate(json.loads(written)).text
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        where, why = (f"{field!r} of the body" if field else "The body"), first["msg"]
    except (ValueError, RecursionError) as error:
        where, why = "The body", f"it is not JSON: {error}"
    raise Invalid(f'{where} cannot be used ({why}): send JSON such as {{"text": "…"}}.')


def _form_text(body: bytes) -> str:
    try:
        fields = parse_qs(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=8
        )
    except UnicodeDecodeError:
        raise Invalid("The text is not UTF-8.") from None
    except ValueError:
        raise Invalid("The form has more fields than this one has.") from None
    # A form sends line ends as CR LF, whatever was typed.
    return fields.get("text", [""])[0].replace("\r\n", "\n")


def _checked(text: str) -> str:
    """A text that can be read. Raises Invalid and TooLarge."""
    if not text:
        raise Invalid("The text is empty: type something.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Invalid("The text has half a character in it: a lone surrogate.") from None
    if size > MOST_BYTES:
        raise TooLarge(f"The text has {size:,} bytes: {MOST_BYTES:,} are the most.")
    return text
