"""Shows the progress of a run where the program runs: a bar in a notebook or on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from html import escape
from typing import Any

_EVERY = 0.2
"""Seconds between two updates of a notebook's bar."""


class Quiet:
    """A reporter that shows nothing."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def say(self, line: str) -> None:
        """Nothing."""

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        """Nothing."""
        return lambda done: None


class NotebookReporter(Quiet):
    """A reporter that shows a bar for each stage in a notebook."""

    def __enter__(self) -> NotebookReporter:
        return self

    def say(self, line: str) -> None:
        """Print a line."""
        print(line)

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        """Show a bar; returns what moves it."""
        from IPython.display import HTML, display

        def bar(done: int) -> Any:
            known = f' value="{done}" max="{total}"' if total else ""
            out_of = f" of {total:,}" if total else ""
            words = escape(f"{name}: {done:,}{out_of} {unit}")
            return HTML(f"<label><progress{known}></progress> {words}</label>")

        shown = display(bar(0), display_id=True)
        last = 0.0

        def update(done: int) -> None:
            nonlocal last
            now = time.monotonic()
            if shown is not None and (now - last >= _EVERY or done == total):
                last = now
                shown.update(bar(done))

        return update


def reporter_here() -> AbstractContextManager[Any]:
    """The reporter for a notebook or a terminal."""
    from rich.console import Console

    from app.cli.progress import ConsoleReporter

    console = Console()
    return NotebookReporter() if console.is_jupyter else ConsoleReporter(console)
