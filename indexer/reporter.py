"""The interface through which a run reports progress; the command line implements it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

PATIENCE = 2.0
"""Seconds after which the user is told what a run waits for."""


class Reporter(Protocol):
    """Receives the messages and progress of a run."""

    def say(self, line: str) -> None:
        """Show the user a line."""
        ...

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        """Begin a stage of `total` `unit`s (None: unknown). Returns a function to call with the
        amount done so far."""
        ...


@contextmanager
def waiting(say: Callable[[str], None], what: str) -> Iterator[None]:
    """Say "Waiting for …" if what happens inside takes longer than `PATIENCE`."""
    timer = threading.Timer(PATIENCE, say, [f"Waiting for {what}"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
