"""One handler that answers every error in one shape, as a page or as JSON."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from app.errors import AppError
from app.schemas import Error
from app.web.frame import Frame
from app.web.middleware import SECURITY_HEADERS
from app.web.site import site_of

log = logging.getLogger("neurarium")
API_PREFIX = "/api/"
_JSON_PATHS = ("/api", "/healthz", "/openapi.json")
_NAMES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    410: "gone",
    413: "too_large",
    422: "invalid",
    500: "internal",
    503: "unavailable",
}
_LONGEST = 100
"""Characters of what a visitor typed that are said back."""


@dataclass(frozen=True, slots=True)
class ErrorContext:
    """What `error.html` is rendered with."""

    frame: Frame
    page: Error


def install(app: FastAPI) -> None:
    """Let `app` answer every error in one shape: as a page, or as JSON under /api."""

    def answer(request: Request, status: int, detail: str) -> Response:
        error = Error(error=_NAMES.get(status, "error"), detail=detail, status=status)
        path = request.scope["path"]
        if path.startswith(API_PREFIX) or path in _JSON_PATHS:
            return JSONResponse(error.model_dump(), status)
        return site_of(request).html(request, "error.html", ErrorContext(Frame(), error), status)

    @app.exception_handler(AppError)
    def _app(request: Request, error: AppError) -> Response:
        response = answer(request, error.status, error.detail)
        response.headers.update(error.headers)
        return response

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            path = quote(request.scope["path"], safe="/:@!$&'()*+,;=")
            return answer(request, 404, f"There is nothing at {_cut(path)}.")
        if error.status_code == 405:
            only = _allowed(error)
            named = " and ".join([", ".join(only[:-1]), only[-1]]) if only[1:] else only[0]
            response = answer(request, 405, f"{request.method} is not answered: only {named}.")
            response.headers["Allow"] = ", ".join(only)
            return response
        return answer(request, error.status_code, f"{error.detail}.")

    @app.exception_handler(RequestValidationError)
    def _validation(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = first["loc"][-1] if first["loc"] else "request"
        if first["type"] == "missing":
            return answer(request, 422, f"{where} is missing: it has to be given.")
        given = _cut(repr(first.get("input")))
        return answer(request, 422, f"{where} {given} {_rule(first)}.")

    @app.exception_handler(SQLAlchemyError)
    def _database(request: Request, error: SQLAlchemyError) -> Response:
        log.error("The database did not answer %r: %s", request.scope["path"], error)
        return answer(request, 503, "The database does not answer: try again in a moment.")

    @app.exception_handler(Exception)
    def _bug(request: Request, error: Exception) -> Response:
        # The server logs its traceback. This answer is made outside all middleware.
        response = answer(request, 500, "The server failed at this: its log says why.")
        response.headers.update(SECURITY_HEADERS)
        return response


def _allowed(error: HTTPException) -> list[str]:
    """The methods that an address answers; where GET is, HEAD is too."""
    named = {method.strip() for method in (error.headers or {}).get("Allow", "GET").split(",")}
    return sorted(named | ({"HEAD"} if "GET" in named else set()))


def _rule(error: dict[str, Any]) -> str:
    """What a value has to be, in our words where pydantic's are a parser's."""
    limits = error.get("ctx", {})
    match error["type"]:
        case "int_parsing" | "int_parsing_size" | "int_from_float":
            return "is not a whole number"
        case "greater_than_equal":
            return f"is too small: {limits['ge']} is the least"
        case "less_than_equal":
            return f"is too large: {limits['le']} is the most"
        case "string_too_long":
            return f"is too long: {limits['max_length']} characters are the most"
        case "literal_error":
            return f"is not one of {limits['expected']}"
    return f"cannot be used: {error['msg']}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
