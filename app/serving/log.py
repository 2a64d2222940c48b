"""Keeps visitors from filling the log: a server's warnings about what they send come seldom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

_LOGGERS = ("uvicorn.error", "asyncio")
_SECONDS = 60.0
_LINES = 5


class Seldom(logging.Filter):
    """Lets a few records with the same message pass a minute; the next one says how many did not.

    Uvicorn logs its errors with tracebacks under one message: those all pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}
        """For each message: when its minute began, and how many came in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record may pass."""
        if record.name == "uvicorn.error" and record.levelno >= logging.ERROR:
            return True
        message, now = str(record.msg).partition("\n")[0], self._clock()
        began, count = self._seen.get(message, (now, 0))
        if now - began >= _SECONDS:
            left_out, began, count = count - _LINES, now, 0
            if left_out > 0:
                record.msg, record.args = f"{record.getMessage()} ({left_out:,} more before)", ()
        self._seen[message] = (began, count + 1)
        return count < _LINES


def log_seldom() -> None:
    """Filter what the server's libraries log about visitors."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(known, Seldom) for known in logger.filters):
            logger.addFilter(Seldom())
