"""Upgrades a store to this version's schema."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, select, update

from indexer.store import schema
from indexer.store.database import changing
from indexer.store.migrations import checksums, notes

Say = Callable[[str], None]
STEPS: dict[int, Callable[[Connection, Operations, Say], list[int]]] = {
    4: checksums.upgrade,
    5: notes.upgrade,
}
"""By schema version, the step to the next. A step returns the runs that it found damaged."""


@dataclass(frozen=True)
class Upgraded:
    """What an upgrade did."""

    before: int
    damaged: list[int]
    """Runs whose rows do not give their content hash."""


def upgrade(engine: Engine, say: Say) -> Upgraded:
    """Upgrade a store that `open_store` has opened for an upgrade. Nothing happens to a store of
    this version. Raises SQLAlchemy's DBAPIError, and then nothing is changed."""
    damaged: list[int] = []
    with changing(engine, alone=True) as connection:
        before = version = connection.scalars(select(schema.store.c.schema_version)).one()
        operations = Operations(MigrationContext.configure(connection))
        while version < schema.SCHEMA_VERSION:
            damaged += STEPS[version](connection, operations, say)
            version += 1
            connection.execute(update(schema.store).values(schema_version=version))
    return Upgraded(before, damaged)
