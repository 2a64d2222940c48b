"""Live models in another process: each text is sent there as the visitor sent it, and the answer
comes back as it is. So models are in memory once, however many processes serve pages."""

from __future__ import annotations

from pathlib import Path

from fastapi import Request, Response

from app.errors import Unavailable
from app.live.places import RETRY, Places

_OF_ONE_HOP = frozenset(
    (b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"trailer")
)
_OURS = _OF_ONE_HOP | {b"content-length", b"date", b"server"}
_SECONDS = 5.0
"""To connect. An answer may take as long as the model needs."""


class Elsewhere:
    """Asks the process that has the models, at a socket in the file system."""

    def __init__(self, socket: Path, *, tokens: int, waiting: int) -> None:
        """`tokens`: the most tokens of a text, including BOS; `waiting`: the most requests that
        this process lets run or wait."""
        import httpx

        self.tokens = tokens
        self.places = Places(waiting)
        transport = httpx.AsyncHTTPTransport(
            uds=str(socket), limits=httpx.Limits(max_connections=None)
        )
        timeout = httpx.Timeout(None, connect=_SECONDS)
        self._client = httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def ask(self, request: Request, body: bytes) -> Response:
        """The other process's answer to a request. Raises Unavailable if that process has ended or
        is about to."""
        import httpx

        scope = request.scope
        left_out = _OF_ONE_HOP | {b"accept-encoding", b"content-length", b"expect"}
        headers = [pair for pair in request.headers.raw if pair[0] not in left_out]
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        url = httpx.URL("http://live").copy_with(raw_path=scope["raw_path"] + query)
        # Not compressed, which is done on the way to the visitor.
        headers.append((b"accept-encoding", b"identity"))
        try:
            answer = await self._client.request(
                request.method, url, headers=headers, content=body, follow_redirects=False
            )
        except httpx.TransportError:
            raise Unavailable(
                "The process that runs models has ended, and another one is being started: try "
                "again in a moment.",
                retry_after=RETRY,
            ) from None
        response = Response(answer.content, answer.status_code)
        response.raw_headers += [
            (name.lower(), value)
            for name, value in answer.headers.raw
            if name.lower() not in _OURS and name.lower() != b"vary"
        ]
        return response
