"""Bounds how many texts are received, running and waiting. Further visitors are refused
before anything is read for them: a page takes longer to build than a refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from app.errors import Unavailable
from app.web.forms import body_of

RETRY = 2
"""Seconds after which a visitor may try again if too many are waiting."""
_ARRIVING = 8
"""Texts that may be on their way for each that may run or wait."""


class Places:
    """The places for texts. For the event loop's thread."""

    def __init__(self, most: int) -> None:
        """`most`: how many texts may run or wait."""
        self._most = most
        self.taken = 0
        """Texts that run or wait."""
        self._arriving = 0

    @asynccontextmanager
    async def body(self, request: Request, most: int) -> AsyncIterator[bytes]:
        """The body of a request, which has a place until the context ends. Raises Unavailable if
        there is none, TooLarge if the body exceeds `most` bytes."""
        self._check()
        if self._arriving >= _ARRIVING * self._most:
            raise Unavailable(
                f"{self._arriving} texts are being received, the most that this server accepts: "
                "try again in a moment.",
                retry_after=RETRY,
            )
        self._arriving += 1
        try:
            body = await body_of(request, most)
        finally:
            self._arriving -= 1
        self._check()
        self.taken += 1
        try:
            yield body
        finally:
            self.taken -= 1

    def _check(self) -> None:
        if self.taken >= self._most:
            raise Unavailable(
                f"{self.taken} texts are running or waiting, the most that this server accepts: "
                "try again in a moment.",
                retry_after=RETRY,
            )
