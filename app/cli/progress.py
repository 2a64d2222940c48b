"""How the command line shows a run: a line a stage, with rate and time left."""

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
    """Amount done and how fast, in the stage's own unit."""

    def render(self, task: Task) -> Text:
        """The column's text. rich's hook."""
        unit = str(task.fields.get("unit", ""))
        done = f"{task.completed:,.0f}"
        total = f"/{task.total:,.0f}" if task.total and not task.finished else ""
        speed = task.finished_speed or task.speed
        rate = f" · {speed:,.0f}/s" if speed else ""
        return Text(f"{done}{total} {unit}{rate}", no_wrap=True)


class ConsoleReporter:
    """A run's reporter: progress bars on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=16),
            _Rate(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
        )

        self._endless: TaskID | None = None
        """The stage of which no total was known: it is over when the next begins."""

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
        """A line above the bars."""
        self._console.print(escape(line), highlight=False, soft_wrap=True)

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        """Begin a stage's bar."""
        if not self._console.is_terminal:
            return self._plain_stage(name, total, unit)
        self._end()
        task = self._progress.add_task(name, total=total, unit=unit)
        self._endless = task if total is None else None

        def update(done: int) -> None:
            self._progress.update(task, completed=done)

        return update

    def _end(self) -> None:
        """What was done of a stage without a total was all of it."""
        for task in self._progress.tasks:
            if task.id == self._endless:
                self._progress.update(task.id, total=task.completed)

    def _plain_stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        """A line a minute, for logs."""
        began = told = time.monotonic()

        def update(done: int) -> None:
            nonlocal told
            now = time.monotonic()
            if now - told < _LOG_SECONDS:
                return
            told = now
            rate = done / (now - began)
            of = f"/{total:,}" if total else ""
            left = f", {(total - done) / rate:,.0f} s left" if total and rate else ""
            self.say(f"{name}: {done:,}{of} {unit}, {rate:,.0f}/s{left}")

        return update
