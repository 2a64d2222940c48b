"""Which runs' tables of texts this process has checked."""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import Connection, Row

from indexer.store.text import index as text_index


class CheckedTexts:
    """The runs whose texts have the digest that is stored with the run. Safe to share between
    threads."""

    def __init__(self) -> None:
        self._checked: set[tuple[int, str]] = set()
        self._lock = threading.Lock()

    def check(self, connection: Connection, run: Row[Any]) -> None:
        """Read the whole table of a run's texts, unless that was done. Raises Damaged."""
        key = (run.id, run.text_digest)
        if key in self._checked:
            return
        with self._lock:  # other threads wait for the answer instead of reading it too
            if key in self._checked:
                return
            text_index.check(connection, run.id, run.text_digest)
            self._checked.add(key)
