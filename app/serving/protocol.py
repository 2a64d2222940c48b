"""HTTP/1.1 as uvicorn speaks it over httptools, with the bounds on visitors that it lacks."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from app.serving.connections import Connections, Wait

MOST_HEAD = 1 << 16
"""The largest head of a request, in bytes; also of what frames the chunks of a body."""
_STEP = 1 << 12
"""Bytes that are parsed before they are counted."""
_MOST_DISCARDED = 1 << 20
"""Bytes of a refused request that are read, so that the visitor can read the refusal."""
_MOST_AHEAD = 64
"""Requests that may be sent before the first of them is answered."""
_REFUSALS = {
    431: b"The head of the request is too large: the maximum is 65,536 bytes.\n",
    503: b"The server has too many visitors: try again in a moment.\n",
}


class BoundedProtocol(HttpToolsProtocol):
    """One connection, which says what it waits for. Heads over `MOST_HEAD` are answered with 431,
    connections without room with 503."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._others = connections
        self._in_head = self._in_body = self._refused = False
        self._uncounted = 0
        """Bytes since the last head or piece of a body was complete."""
        self._discarded = 0
        self._unread = 0
        """Bytes of answers that the visitor had not read when `progressed` was last asked."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not self._others.opened(self, self.loop):
            self._refuse(503)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._others.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._discarded += len(data)
            if self._discarded > _MOST_DISCARDED:
                self.abort()
            return
        for start in range(0, len(data), _STEP):
            piece = data if len(data) <= _STEP else data[start : start + _STEP]
            self._uncounted += len(piece)
            super().data_received(piece)
            if self.transport.is_closing():
                return
            if self._uncounted > MOST_HEAD:
                self._refuse(431)
                return
            if len(self.pipeline) > _MOST_AHEAD:
                self.abort()
                return
        self._settle()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it follows a body, and nothing here reads such headers
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body, self._uncounted = False, True, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._uncounted = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body, self._uncounted = False, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._settle()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._settle()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._settle()

    def abort(self) -> None:
        """End the connection at once, with what was not sent yet."""
        self.transport.abort()

    def progressed(self, wait: Wait) -> bool:
        """Whether the visitor has read something since this was last asked, or could not send."""
        if wait is Wait.BODY:
            return self.flow.read_paused
        before, self._unread = self._unread, self.transport.get_write_buffer_size()
        return wait in (Wait.UNREAD, Wait.IDLE) and self._unread < before

    def _settle(self) -> None:
        wait = self._wait()
        if wait in (Wait.UNREAD, Wait.IDLE):
            self._unread = self.transport.get_write_buffer_size()
        self._others.waits(self, wait, self.loop.time())

    def _wait(self) -> Wait | None:
        if self._refused:
            return Wait.REFUSED
        if self.flow.write_paused:
            return Wait.UNREAD
        if self._in_body:
            return Wait.BODY
        if self.cycle is None:
            return Wait.FIRST
        if not self.cycle.response_complete:
            return None
        return Wait.HEAD if self._in_head else Wait.IDLE

    def _refuse(self, status: int) -> None:
        """Answer with an error, and read a little more: to close at once would take the answer from
        the visitor, who is still sending."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.abort()  # in the middle of another answer
            return
        self._refused = True
        text = _REFUSALS[status]
        head = (
            b"content-type: text/plain; charset=utf-8\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n" % len(text)
        )
        self.transport.write(STATUS_LINE[status] + head + text)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._settle()
