"""What every answer needs: security headers, the caching of static files, HEAD."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "Content-Security-Policy"


def content_policy(frames: str = "'none'") -> str:
    """The Content-Security-Policy of a page; `frames`: the sites that may show it in a frame."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; "
        f"frame-ancestors {frames}"
    )


SECURITY_HEADERS = {
    POLICY: content_policy(),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
WITHOUT_BODY = "neurarium.without_body"
"""Set in the scope of a HEAD request, which is answered like a GET: a body that takes long to make
need not be made."""
_FOR_A_YEAR = "public, max-age=31536000, immutable"


class CommonHeaders:
    """Adds the headers. A plain ASGI wrapper, because every request passes through it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI calls it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)  # embedded pages set their own policy
                if scope["path"].startswith("/static/") and message["status"] == 200:
                    versioned = b"v=" in scope["query_string"]
                    headers["Cache-Control"] = _FOR_A_YEAR if versioned else "no-cache"
            await send(message)

        if scope["method"] == "HEAD":  # the server leaves the body out
            scope = {**scope, "method": "GET", WITHOUT_BODY: True}
        await self.app(scope, receive, send_with_headers)
