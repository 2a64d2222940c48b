"""What identifies the contents of runs. It is asked for at every request: so by the shortest way.

Apart from `queries.py` because SQLite is asked here on a connection that is kept, without
SQLAlchemy's pool, transaction and row objects: microseconds instead of most of an unchanged page's
time. Nothing is remembered from one request to the next: a run that has just become ready, or is
just gone, shows at once.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine, select

from indexer.store import schema

_RUNS = (
    select(schema.runs.c.id, schema.runs.c.content_hash, schema.runs.c.model)
    .where(schema.runs.c.ready)
    .order_by(schema.runs.c.id)
)


class RunVersions:
    """Reads one store. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        # One SELECT is a transaction of its own.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._sql = str(_RUNS.compile(dialect=engine.dialect))
        self._kept: Any = None
        self._lock = threading.Lock()

    def of(self, model: str | None) -> list[str]:
        """The versions of a model's runs, or of all, oldest first. Raises SQLAlchemyError."""
        return [
            f"{run_id}:{content_hash}"
            for run_id, content_hash, name in self._rows()
            if model is None or name == model
        ]

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            self._drop()

    def _rows(self) -> Any:
        if self._is_sqlite:
            # Where it fails, the usual way says why, or finds that all is well again.
            with suppress(sqlite3.Error), self._lock:
                return self._rows_of_kept()
        with self._engine.connect() as connection:
            return connection.execute(_RUNS).all()

    def _rows_of_kept(self) -> list[Any]:
        if self._kept is None:
            self._kept = self._engine.raw_connection()
        try:
            # All rows are fetched, so that no read transaction stays open.
            rows: list[Any] = self._kept.driver_connection.execute(self._sql).fetchall()
        except sqlite3.Error:
            self._drop()
            raise
        return rows

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None
