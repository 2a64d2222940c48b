"""What can go wrong while answering: a small tree, and one handler that answers in HTML or JSON of
one shape."""

from __future__ import annotations


class AppError(Exception):
    """A request that cannot be answered, with the status it gets."""

    status = 500

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers: dict[str, str] = {}


class NotFound(AppError):
    """What was asked for does not exist."""

    status = 404


class Unauthorized(AppError):
    """What was asked for needs a token, and none came with it."""

    status = 401

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.headers["WWW-Authenticate"] = "Bearer"


class Forbidden(AppError):
    """What was asked for is not given, by the server's settings."""

    status = 403


class Gone(AppError):
    """What was asked for was here and will not come back by waiting."""

    status = 410


class TooLarge(AppError):
    """What was sent is more than is taken."""

    status = 413


class Invalid(AppError):
    """What was asked cannot be parsed."""

    status = 422


class Unavailable(AppError):
    """What was asked for cannot be given now. `retry_after`: seconds until it may be."""

    status = 503

    def __init__(self, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)
