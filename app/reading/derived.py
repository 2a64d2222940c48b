"""Values computed once from a run, then cached in memory: a run never changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Row

Value = TypeVar("Value")
_CACHED = 64
"""Values in memory; the least recently used is dropped first."""


class Derived:
    """Values by name and runs. Safe to share between threads."""

    def __init__(self) -> None:
        self._values: OrderedDict[tuple[str, ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, name: str, *runs: Row[Any], compute: Callable[[], Value]) -> Value:
        """The value called `name` of these runs, computed if it is not known yet."""
        # Another database could have given the id to another run: the hash tells them apart.
        key = (name, *(f"{run.id}:{run.content_hash}" for run in runs))
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                found: Value = self._values[key]
                return found
        value = compute()
        with self._lock:
            self._values[key] = value
            while len(self._values) > _CACHED:
                self._values.popitem(last=False)
        return value
