"""Refuses requests that another site's page may have made: by a name that is not the server's, or
a post from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_READING = ("GET", "HEAD", "OPTIONS")

Answer = Callable[[Request, int, str], Response]


class OwnVisitors:
    """Answers 400 to names that are not in `hosts` (empty: every name is answered) and to several
    names at once, and 403 to what may compute or write if its Origin is not the address that it was
    sent to.

    A page of any site can send a browser here under a name of its own choice (DNS rebinding), and
    can post forms. Programs send no Origin.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], answer: Answer) -> None:
        self.app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI calls it."""
        if scope["type"] == "http" and (refusal := self._refusal(Request(scope))):
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if len(request.headers.getlist("host")) > 1:
            return self._answer(request, 400, "This request has several Host headers: send one.")
        if self._hosts and _name(host) not in self._hosts:
            return self._answer(
                request,
                400,
                "This server does not answer to the name it was asked by: its setting "
                "NEURARIUM_ALLOWED_HOSTS lists its names.",
            )
        origins = request.headers.getlist("origin")
        if request.method not in _READING and any(_place(one) != host.lower() for one in origins):
            return self._answer(
                request, 403, "A page of another site sent this: only this site's own pages may."
            )
        return None


def _place(origin: str) -> str | None:
    """Host and port of an Origin header; None if it is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # brackets that hold no IPv6 address
        return None


def _name(host: str) -> str:
    """A Host header without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower().rstrip(".")
