"""Ctrl-C and SIGTERM: the scan stops between two batches, not within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from indexer.errors import NeurariumError


class Stopped(NeurariumError):
    """The user stopped the run; a checkpoint is saved."""


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event set by the first SIGINT or SIGTERM; a second signal has its usual effect.

    Outside the main thread, where signals cannot be handled, nothing sets it.
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
        if signal.getsignal(caught) != signal.SIG_IGN:  # nohup and the like ignore it on purpose
            before[caught] = signal.signal(caught, request)
    try:
        yield requested
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)
