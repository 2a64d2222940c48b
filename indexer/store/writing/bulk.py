"""Inserts many rows into one table, the fastest way each database has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import BigInteger, Boolean, Connection, Float, Integer, LargeBinary, String, Table
from sqlalchemy.types import TypeEngine

from indexer.store.checksums import with_checksums
from indexer.store.database import copy_rows

_MOST_ROWS, _MOST_VALUES = 500, 32_766


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows with values in the order of the table's columns: numbers, text, bytes, None.
    Checksums, a table's last columns, are added here.

    They go straight to the driver: multi-row INSERT on SQLite, binary COPY on PostgreSQL.
    Raises SQLAlchemy's DBAPIError.
    """
    if not rows:
        return
    rows = with_checksums(table, rows)
    if connection.dialect.name != "postgresql":
        most = min(_MOST_ROWS, _MOST_VALUES // len(table.c))
        for first in range(0, len(rows), most):
            batch = rows[first : first + most]
            values = tuple(chain.from_iterable(batch))
            connection.exec_driver_sql(_insert(table, len(batch)), values)
        return
    statement, types = _copy(table)
    copy_rows(connection, statement, rows, types)


@cache
def _insert(table: Table, rows: int) -> str:
    marks = ", ".join("?" * len(table.c))
    values = ", ".join([f"({marks})"] * rows)
    return f'INSERT INTO "{table.name}" ({_names(table)}) VALUES {values}'


@cache
def _copy(table: Table) -> tuple[str, list[str]]:
    types = [_postgres_type(column.type) for column in table.c]
    return f'COPY "{table.name}" ({_names(table)}) FROM STDIN (FORMAT BINARY)', types


def _names(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.c)


def _postgres_type(kind: TypeEngine[Any]) -> str:
    names: tuple[tuple[type[TypeEngine[Any]], str], ...] = (
        (BigInteger, "int8"),
        (Integer, "int4"),
        (Float, "float8"),
        (Boolean, "bool"),
        (LargeBinary, "bytea"),
        (String, "text"),
    )
    return next(name for class_, name in names if isinstance(kind, class_))
