"""Time limits of a server on PostgreSQL, so that a database that hangs costs visitors seconds.

The database itself ends a query that takes too long. If the whole database stands still, only this
side can notice: it waits for every answer a limited time, and for a sign of life before a
connection is used again a shorter time.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError

QUERY = 10
"""Seconds that PostgreSQL may work on one query."""
ANSWER = 12
"""Seconds that an answer may take."""
ALIVE = 2
"""Seconds that a connection has to show that the database is there."""
CONNECT = 3
"""Seconds that opening a connection may take."""


def limit(engine: Engine) -> None:
    """Set the limits on all connections of an engine of PostgreSQL."""
    dialect, connection_class = engine.dialect, _connection_class()

    def connect(_dialect: object, _record: object, args: Any, named: dict[str, Any]) -> Any:
        return connection_class.connect(*args, **named | {"connect_timeout": CONNECT})

    def opened(connection: Any, record: Any) -> None:
        if "statement_timeout" not in str(engine.url.query.get("options", "")):
            # As a statement: poolers such as PgBouncer refuse options of a connection.
            connection.execute(f"SET statement_timeout = '{QUERY}s'")
            connection.commit()
        record.info["fresh"] = True

    def check(connection: Any, record: Any, _proxy: object) -> None:
        if record.info.pop("fresh", False):
            return
        connection.patience = ALIVE
        try:
            dialect.do_ping(connection)
        except Exception as error:
            if getattr(connection, "timed_out", False):
                raise
            raise DisconnectionError("the connection was closed") from error
        finally:
            connection.patience = ANSWER

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", opened)
    event.listen(engine, "checkout", check)


def _connection_class() -> Any:
    from psycopg import Connection, OperationalError

    class LimitedConnection(Connection[Any]):
        """A connection that is closed if an answer takes too long."""

        patience: float = ANSWER
        timed_out = False

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            if timeout is not None:
                return super().wait(gen, interval, timeout)
            end = monotonic() + self.patience
            try:
                return super().wait(gen, interval, self.patience)
            except OperationalError:
                if self.closed or monotonic() < end:
                    raise
                self.timed_out = True
                self.pgconn.finish()
                raise OperationalError(
                    f"the database did not answer within {self.patience:g} seconds"
                ) from None

    return LimitedConnection
