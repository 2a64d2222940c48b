"""Runs that tests stop and carry on: where they are written, and a stop at a chosen batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from indexer.config import Execution, IndexConfig
from indexer.run import passes, together
from indexer.run.index import index
from indexer.store import schema
from indexer.store.database import open_store
from tests.conftest import Silent

OFTEN = Execution(checkpoint_seconds=0)
"""A checkpoint after every batch."""


class Told(Silent):
    """Remembers what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class Place:
    """A database and a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'runs.db'}"
        self.cache = folder / "cache"

    def index(self, config: IndexConfig, execution: Execution = OFTEN) -> list[str]:
        told = Told()
        index(config, self.url, self.cache, told, execution)
        return told.lines

    def hashes(self) -> list[str]:
        engine = open_store(self.url, create=False)
        with engine.connect() as connection:
            found = connection.scalars(select(schema.runs.c.content_hash)).all()
        engine.dispose()
        return list(found)

    def unfinished(self) -> list[Path]:
        return sorted((self.cache / "runs").glob("*"))


@contextmanager
def stopped_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> Iterator[None]:
    """As if the user pressed Ctrl-C while batch number `batches` is scanned."""

    asked = iter(range(1, 1000))

    class Later(threading.Event):
        def is_set(self) -> bool:
            return next(asked) >= batches

    @contextmanager
    def requests() -> Iterator[threading.Event]:
        yield Later()

    with monkeypatch.context() as patch:
        for module in (passes, together):
            patch.setattr(module, "stop_requests", requests)
        yield
