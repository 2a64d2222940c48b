"""Errors of a request, each with its HTTP status. `app.web.failures` answers with them."""

from __future__ import annotations


class AppError(Exception):
    """A request that cannot be answered. `detail` is the message for the visitor; as text the error
    also has its `cause`, for the operator alone: it may name paths of the operator's disk."""

    status = 500

    def __init__(self, detail: str, cause: object = "") -> None:
        super().__init__(f"{detail} {cause}" if cause else detail)
        self.detail = detail
        self.headers: dict[str, str] = {}


class NotFound(AppError):
    """The thing requested does not exist."""

    status = 404


class Unauthorized(AppError):
    """The request needs a token and has none."""

    status = 401

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.headers["WWW-Authenticate"] = "Bearer"


class Forbidden(AppError):
    """The server's settings do not allow the request."""

    status = 403


class ReadOnly(AppError):
    """The request would write to a database that can only be read."""

    status = 403


class NotAcceptable(AppError):
    """The answer has no form that the request accepts."""

    status = 406


class Gone(AppError):
    """The thing requested existed and is gone for good."""

    status = 410


class TooLarge(AppError):
    """The request is larger than the server accepts."""

    status = 413


class Invalid(AppError):
    """The request cannot be parsed."""

    status = 422


class Unavailable(AppError):
    """The request cannot be answered now. `retry_after`: in how many seconds it may be."""

    status = 503

    def __init__(self, detail: str, cause: object = "", *, retry_after: int | None = None) -> None:
        super().__init__(detail, cause)
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)
