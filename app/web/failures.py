"""Answers every error in one shape, as a page or as JSON."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.drawing.quoting import printable, shortened
from app.errors import AppError, NotFound
from app.reading.store import Store
from app.schemas import Error
from app.sets import ModelSet
from app.web import urls
from app.web.address import FORMS
from app.web.frame import Frame
from app.web.links import Links
from app.web.middleware import SECURITY_HEADERS
from app.web.nearest import Place, nearest
from app.web.site import site_of
from indexer.store.checksums import RESTORE, Damaged
from indexer.store.failures import is_damage
from indexer.store.files import FileMoved

log = logging.getLogger("neurarium")
_DAMAGED = (
    "The stored data of this page is damaged, so it is not shown: the server's log says where."
)
_IO_HINT = (
    ". If this goes on, restart the server: its disk fails, or somebody removed the -wal or -shm "
    "file beside the database, which belong to it."
)
_MOVED = (
    "The server's database was removed or replaced while it was running: whoever runs the server "
    "has to restart it."
)
_RETRY = 5
"""Seconds after which a client may ask a database again."""
API_PREFIX = "/api/"
_JSON_PATHS = ("/api", "/healthz", "/openapi.json")
_NAMES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    410: "gone",
    413: "too_large",
    422: "invalid",
    500: "internal",
    503: "unavailable",
}


_LOOKUPS = 4
"""Threads for errors that look for the nearest places."""

Handler = Callable[[Request, Exception], Response]
AsyncHandler = Callable[[Request, Exception], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class ErrorContext:
    """What `error.html` is rendered with."""

    frame: Frame
    page: Error
    nearest: list[Place]
    """Existing pages whose address is like the requested address."""
    forms: str = f" Try {FORMS}."
    """The end of an error that says what can be typed: the page shows it below the heading."""


def install(app: FastAPI) -> None:
    """Let `app` answer every error as an `Error`: as JSON under /api, else as a page."""
    handlers: dict[type[Exception], Handler] = {
        AppError: _of_app,
        HTTPException: _of_http,
        RequestValidationError: _of_parameters,
        Damaged: _of_damage,
        SQLAlchemyError: _of_database,
        Exception: _bug,
    }
    lookups = CapacityLimiter(_LOOKUPS)
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, _at_once(handler, lookups))


def _at_once(handler: Handler, lookups: CapacityLimiter) -> AsyncHandler:
    """The handler as a coroutine: the framework would let it wait for a thread, behind the pages
    that are being built. What looks for nearest places in the database has threads of its own."""

    async def handle(request: Request, error: Exception) -> Response:
        if _looks_up(request, error):
            return await to_thread.run_sync(handler, request, error, limiter=lookups)
        return handler(request, error)

    return handle


def _looks_up(request: Request, error: Exception) -> bool:
    """Whether the answer to an error is a page with the nearest places."""
    status = getattr(error, "status", None) or getattr(error, "status_code", None)
    found_nothing = isinstance(error, RequestValidationError) or status in (404, 422)
    return found_nothing and not _is_json(request)


def _is_json(request: Request) -> bool:
    path = request.scope["path"]
    return path.startswith(API_PREFIX) or path in _JSON_PATHS


def answer(request: Request, status: int, detail: str) -> Response:
    """The answer with an error: JSON for the API, else a page, with the nearest places for 404 and
    422."""
    error = Error(error=_NAMES.get(status, "error"), detail=detail, status=status)
    if _is_json(request):
        return JSONResponse(error.model_dump(), status)
    typed, near, links = _near(request) if status in (404, 422) else ("", [], None)
    context = ErrorContext(Frame(links, typed=typed), error, near)
    return site_of(request).html(request, "error.html", context, status)


def _near(request: Request) -> tuple[str, list[Place], Links | None]:
    """What was typed, the existing pages near to it, and the links of the model it was typed at."""
    store = site_of(request).store
    typed = path = request.scope["path"]
    page = None
    if path == urls.go():
        asked = request.query_params
        typed, model = asked.get("to", "").strip(), asked.get("model")
        page = None if model is None else ModelSet(model, asked.get("set") or None)
    try:
        near = nearest(store, typed, page)
        links = None if page is None else _links_of(store, page)
    except SQLAlchemyError:  # answer with the first error
        return typed, [], None
    return printable(typed) if path == urls.go() else "", near, links


def _links_of(store: Store, page: ModelSet) -> Links | None:
    """The links of a model and set, or of the model if it has no such set; None without a model."""
    for name in (page, ModelSet(page.model)):
        try:
            store.check_model(name)
        except NotFound:
            continue
        return Links(name)
    return None


def _of_app(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    response = answer(request, error.status, error.detail)
    response.headers.update(error.headers)
    return response


def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        if redirect := _without_slash(request):
            return redirect
        path = quote(request.scope["path"], safe="/:@!$&'()*+,;=")
        return answer(request, 404, f"There is nothing at {shortened(path)}.")
    if error.status_code == 405:
        methods = _allowed(error)
        names = " and ".join([", ".join(methods[:-1]), methods[-1]]).removeprefix(" and ")
        response = answer(request, 405, f"{request.method} is not allowed, only {names}.")
        response.headers["Allow"] = ", ".join(methods)
        return response
    return answer(request, error.status_code, f"{error.detail}.")


def _without_slash(request: Request) -> Response | None:
    """A relative redirect to the same address without its last slash, if there is a page. Not for
    what is sent: a browser would send it a second time."""
    path = request.scope["path"]
    shorter = path.rstrip("/")
    is_page = request.method in ("GET", "HEAD") and not path.startswith(API_PREFIX)
    if not is_page or shorter in ("", path):
        return None
    scope = {**request.scope, "path": shorter, "method": "GET"}
    if not any(route.matches(scope)[0] == Match.FULL for route in request.app.router.routes):
        return None
    # One slash: two would begin the name of another host.
    target = "/" + quote(shorter.lstrip("/"), safe="/:@!$&'()*+,;=")
    query = request.scope["query_string"].decode("latin-1")
    return RedirectResponse(f"{target}?{query}" if query else target, 307)


def _of_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["loc"][:1] == ("path",) and (missing := _missing_model(request)):
        return answer(request, 404, missing)
    where = first["loc"][-1] if first["loc"] else "request"
    if first["type"] == "missing":
        return answer(request, 422, f"{where} is missing.")
    value = shortened(repr(first.get("input")))
    return answer(request, 422, f"{where} {value} {_rule(first)}.")


def _missing_model(request: Request) -> str:
    """What is wrong with the model in a page's address; empty if it is there."""
    model = request.path_params.get("model")
    if model is None or _is_json(request):
        return ""
    try:
        site_of(request).store.check_model(model)
    except NotFound as error:
        return error.detail
    except SQLAlchemyError:  # answer with the first error
        pass
    return ""


def _of_damage(request: Request, error: Exception) -> Response:
    log.error("%r: %s", request.scope["path"], error)
    return answer(request, 500, _DAMAGED)


def _of_database(request: Request, error: Exception) -> Response:
    if is_damage(error):
        where = request.scope["path"]
        log.error("%r: the database file is damaged (%s): %s", where, error, RESTORE)
        return answer(request, 500, _DAMAGED)
    if isinstance(error, FileMoved):
        log.error("%r: %s Restart the server, or put the file back.", request.scope["path"], error)
        return _retried(answer(request, 503, _MOVED))
    # SQLite has one message for thirty errors of reading and writing.
    code = getattr(getattr(error, "orig", None), "sqlite_errorname", "")
    hint = _IO_HINT if code.startswith("SQLITE_IOERR") else ""
    log.error("The database did not answer %r: %s %s%s", request.scope["path"], code, error, hint)
    detail = "The database does not answer: try again in a moment."
    return _retried(answer(request, 503, detail))


def _retried(response: Response) -> Response:
    response.headers["Retry-After"] = str(_RETRY)
    return response


def _bug(request: Request, error: Exception) -> Response:
    # The server logs the traceback. No middleware sees this answer, so it needs its headers.
    response = answer(request, 500, "The server failed: its log says why.")
    response.headers.update(SECURITY_HEADERS)
    return response


def _allowed(error: HTTPException) -> list[str]:
    """The methods that an address answers; HEAD goes with GET."""
    methods = {method.strip() for method in (error.headers or {}).get("Allow", "GET").split(",")}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def _is_whole(value: object) -> bool:
    """Whether a value is a whole number: pydantic reads `0-1` as −1."""
    return not isinstance(value, str) or value.lstrip("+-").isdigit()


def _rule(error: dict[str, Any]) -> str:
    """What is wrong with a value, in plainer words than pydantic's."""
    limits = error.get("ctx", {})
    match error["type"]:
        case "int_parsing" | "int_parsing_size" | "int_from_float":
            return "is not a whole number"
        case "greater_than_equal" if not _is_whole(error.get("input")):
            return "is not a whole number"
        case "greater_than_equal":
            return f"is too small: the minimum is {limits['ge']}"
        case "less_than_equal":
            return f"is too large: the maximum is {limits['le']}"
        case "string_too_long":
            return f"is too long: the maximum is {limits['max_length']} characters"
        case "literal_error":
            return f"is not one of {limits['expected']}"
    return f"cannot be used: {error['msg']}"
