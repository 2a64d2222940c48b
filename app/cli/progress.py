"""How the command line shows a run's progress: a bar per stage, with rate and time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_LOG_SECONDS = 60


class _Rate(ProgressColumn):
    """Amount done and rate, in the stage's unit."""

    def render(self, task: Task) -> Text:
        """The column's text; called by rich."""
        unit = str(task.fields.get("unit", ""))
        done = f"{task.completed:,.0f}"
        total = f"/{task.total:,.0f}" if task.total and not task.finished else ""
        speed = task.finished_speed or task.speed
        rate = f" · {speed:,.0f}/s" if speed else ""
        return Text(f"{done}{total} {unit}{rate}", no_wrap=True)


class ConsoleReporter:
    """Reports a run's progress: with bars on a terminal, elsewhere with a line per minute."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=16),
            _Rate(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
        )
        self._open_ended: TaskID | None = None
        """The stage without a known total: it is complete when the next one begins."""

    def __enter__(self) -> ConsoleReporter:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            if kind is None:
                self._end()
            self._progress.stop()

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._console.print(escape(line), highlight=False, soft_wrap=True)

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        """Begin a stage; returns what updates the amount done, in `unit`."""
        if not self._console.is_terminal:
            return self._plain_stage(name, total, unit)
        self._end()
        task = self._progress.add_task(name, total=total, unit=unit)
        self._open_ended = task if total is None else None

        def update(done: int) -> None:
            self._progress.update(task, completed=done)

        return update

    def _end(self) -> None:
        """Fill the bar of a stage without a known total."""
        for task in self._progress.tasks:
            if task.id == self._open_ended:
                self._progress.update(task.id, total=task.completed)

    def _plain_stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        """One line per minute, for logs."""
        began = printed = time.monotonic()

        def update(done: int) -> None:
            nonlocal printed
            now = time.monotonic()
            if now - printed < _LOG_SECONDS:
                return
            printed = now
            rate = done / (now - began)
            out_of = f"/{total:,}" if total else ""
            left = f", {(total - done) / rate:,.0f} s left" if total and rate else ""
            self.say(f"{name}: {done:,}{out_of} {unit}, {rate:,.0f}/s{left}")

        return update
