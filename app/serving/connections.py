"""Ends connections that wait too long for their visitor, and makes room for new ones.

Uvicorn's `limit_concurrency` counts open connections too, but answers 503 to whoever sends a whole
request while others keep theirs open: it refuses the wrong ones.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Protocol

_SWEEP = 1.0
"""Seconds between two looks at who waits too long."""


class Wait(Enum):
    """What a connection waits for. In the order in which connections are ended for a new one."""

    REFUSED = "the end of a request that was refused"
    FIRST = "the head of its first request"
    HEAD = "the rest of the head of a later request"
    UNREAD = "its visitor, who does not read the answer"
    IDLE = "a later request"
    BODY = "the rest of a body"


SECONDS = {
    Wait.REFUSED: 2.0,
    Wait.FIRST: 10.0,
    Wait.HEAD: 10.0,
    Wait.UNREAD: 60.0,
    Wait.IDLE: 60.0,  # uvicorn closes it sooner, but that takes until the last answer is read
    Wait.BODY: 30.0,
}
"""How long a connection may wait."""


class Connection(Protocol):
    """What `Connections` asks of a connection."""

    def abort(self) -> None:
        """End it at once."""

    def progressed(self, wait: Wait) -> bool:
        """Whether the visitor has read something since this was last asked, or could not send."""


class Connections:
    """The open connections of one server. For one event loop's thread."""

    def __init__(self, most: int) -> None:
        """`most`: how many may be open."""
        self.most = most
        self._waits: dict[Connection, Wait | None] = {}
        """All connections; None: being answered."""
        self._since: dict[Wait, dict[Connection, float]] = {wait: {} for wait in Wait}
        """When each wait began; the longest wait first."""
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waits)

    def opened(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether there is room for a new connection, which may end another one."""
        if len(self._waits) >= self.most and not self._end_one():
            return False
        self._waits[connection] = None
        self.waits(connection, Wait.FIRST, loop.time())
        if self._sweep is None:
            self._sweep = loop.call_later(_SWEEP, self._end_overdue, loop)
        return True

    def waits(self, connection: Connection, wait: Wait | None, now: float) -> None:
        """A connection now waits for this; None: it is being answered."""
        before = self._waits.get(connection)
        if before is wait or connection not in self._waits:
            return
        if before is not None:
            del self._since[before][connection]
        self._waits[connection] = wait
        if wait is not None:
            self._since[wait][connection] = now

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""
        wait = self._waits.pop(connection, None)
        if wait is not None:
            del self._since[wait][connection]

    def _end_one(self) -> bool:
        for waiting in self._since.values():
            if waiting:
                self._end(next(iter(waiting)))
                return True
        return False

    def _end(self, connection: Connection) -> None:
        self.closed(connection)  # its end is only announced in the loop's next turn
        connection.abort()

    def _end_overdue(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for wait, waiting in self._since.items():
            overdue = []
            for connection, since in waiting.items():
                if now - since < SECONDS[wait]:
                    break
                overdue.append(connection)
            for connection in overdue:
                if connection.progressed(wait):
                    del waiting[connection]
                    waiting[connection] = now
                else:
                    self._end(connection)
        again = bool(self._waits)
        self._sweep = loop.call_later(_SWEEP, self._end_overdue, loop) if again else None
