"""A run's progress: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from app.cli.progress import ConsoleReporter


def test_without_a_terminal_nothing_but_lines() -> None:
    """In a pipe there is no bar, and no empty line in its place."""
    file = io.StringIO()
    with ConsoleReporter(Console(file=file, width=200)) as reporter:
        reporter.say("loading [demo]")
        reporter.stage("Scanning", 100, "tokens")(50)
    assert file.getvalue() == "loading [demo]\n"


def test_a_stage_without_a_total_is_over_when_the_next_begins() -> None:
    """Its total is then what it has read, and its bar is full."""
    with ConsoleReporter(Console(file=io.StringIO(), force_terminal=True)) as reporter:
        reporter.stage("Preparing", None, "tokens")(1_234)
        (preparing,) = reporter._progress.tasks
        assert not preparing.finished
        reporter.stage("Scanning", 10, "tokens")(4)
        assert preparing.finished
        assert preparing.total == 1_234
        assert not reporter._progress.tasks[1].finished
        reporter.stage("Weights", None, "layers")(2)
    assert [task.total for task in reporter._progress.tasks] == [1_234, 10, 2]
