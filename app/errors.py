"""What can go wrong while answering: a small tree, and one handler that answers in HTML or JSON of
one shape."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from app.schemas import Error

log = logging.getLogger("neurarium")

API_PREFIX = "/api/"
_JSON_PATHS = ("/healthz", "/openapi.json")
_NAMES = {404: "not_found", 405: "method_not_allowed", 422: "invalid", 503: "unavailable"}

Render = Callable[[Request, Error], Response]


class AppError(Exception):
    """A request that cannot be answered, with the status it gets."""

    status = 500

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotFound(AppError):
    """What was asked for does not exist."""

    status = 404


class Invalid(AppError):
    """What was asked cannot be parsed."""

    status = 422


def install(app: FastAPI, render: Render) -> None:
    """Let every error of `app` be answered in one shape. `render` makes the HTML page of one."""

    def answer(request: Request, status: int, detail: str) -> Response:
        error = Error(error=_NAMES.get(status, "error"), detail=detail, status=status)
        path = request.url.path
        if path.startswith(API_PREFIX) or path in _JSON_PATHS:
            return JSONResponse(error.model_dump(), status)
        return render(request, error)

    @app.exception_handler(AppError)
    def _app(request: Request, error: AppError) -> Response:
        return answer(request, error.status, error.detail)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return answer(request, 404, f"There is nothing at {request.url.path}.")
        return answer(request, error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def _validation(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = first["loc"][-1] if first["loc"] else "request"
        return answer(request, 422, f"{where} {first.get('input')!r}: {first['msg']}.")

    @app.exception_handler(SQLAlchemyError)
    def _database(request: Request, error: SQLAlchemyError) -> Response:
        log.error("The database did not answer %s: %s", request.url.path, error)
        return answer(request, 503, "The database does not answer: try again in a moment.")
