"""How a run tells what it does, apart from how that looks: the command line has its own way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Reporter(Protocol):
    """Where a run says what it does. Amounts are in the stage's own unit."""

    def say(self, line: str) -> None:
        """A line for the user."""
        ...

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        """Begin a stage; what is returned takes the amount done so far."""
        ...
