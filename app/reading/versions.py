"""Reads what identifies the contents of runs, for ETags.

Every request needs it, so SQLite is asked on one connection that stays open, without SQLAlchemy's
pool, transactions and row objects: that takes microseconds, instead of most of the time of an
unchanged page. Nothing is cached, so that a run appears or disappears at once.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine, select

from indexer.store import schema
from indexer.store.files import unchanged

_RUNS = (
    select(schema.runs.c.id, schema.runs.c.content_hash, schema.runs.c.model)
    .where(schema.runs.c.ready)
    .order_by(schema.runs.c.id)
)


class RunVersions:
    """The versions of the runs of one store. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        # There is only one SELECT, so it needs no transaction.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._sql = str(_RUNS.compile(dialect=engine.dialect))
        self._sqlite: Any = None
        """The connection that stays open."""
        self._lock = threading.Lock()

    def of(self, model: str | None) -> list[str]:
        """The versions of a model's runs, or of all runs, oldest first. Raises SQLAlchemyError."""
        return [
            f"{run_id}:{content_hash}"
            for run_id, content_hash, name in self._rows()
            if model is None or name == model
        ]

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def _rows(self) -> Any:
        if self._is_sqlite:
            # If this fails, SQLAlchemy below says why, or succeeds with a new connection.
            with suppress(sqlite3.Error), self._lock:
                return self._sqlite_rows()
        with self._engine.connect() as connection:
            return connection.execute(_RUNS).all()

    def _sqlite_rows(self) -> list[Any]:
        if self._sqlite is not None and not unchanged(self._sqlite):
            self._drop()
        if self._sqlite is None:
            self._sqlite = self._engine.raw_connection()
        try:
            # Fetch all rows, so that no read transaction stays open.
            rows: list[Any] = self._sqlite.driver_connection.execute(self._sql).fetchall()
        except sqlite3.Error:
            self._drop()
            raise
        return rows

    def _drop(self) -> None:
        if self._sqlite is not None:
            self._sqlite.close()
            self._sqlite = None
