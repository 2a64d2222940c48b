"""Ctrl-C and a system's request to end: a scan then stops between two batches, not within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from indexer.errors import NeurariumError


class Stopped(NeurariumError):
    """The user asked for an end, and what was done so far is kept."""


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that is set by the first SIGINT or SIGTERM; the second acts as it always does.

    Outside the main thread, where signals cannot be taken, nothing sets it.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    before: dict[signal.Signals, Any] = {}

    def request(number: int, _frame: object) -> None:
        requested.set()
        signal.signal(number, before[signal.Signals(number)])

    for caught in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(caught) != signal.SIG_IGN:  # so a shell runs what is not to be stopped
            before[caught] = signal.signal(caught, request)
    try:
        yield requested
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)
