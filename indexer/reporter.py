"""The interface through which a run reports progress; the command line implements it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Reporter(Protocol):
    """Receives the messages and progress of a run."""

    def say(self, line: str) -> None:
        """Show the user a line."""
        ...

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        """Begin a stage of `total` `unit`s (None: unknown). Returns a function to call with the
        amount done so far."""
        ...
