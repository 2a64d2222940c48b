"""Schema 5 → 6: every note carries a checksum. Runs are unchanged."""

from __future__ import annotations

from collections.abc import Callable

from alembic.operations import Operations
from sqlalchemy import Column, Connection, Integer, inspect, text

from indexer.store import notes


def upgrade(
    connection: Connection, operations: Operations, say: Callable[[str], None]
) -> list[int]:
    """Add the column to the table of notes, if there is one, and fill it. Finds no damaged run."""
    if inspect(connection).has_table("notes"):
        say("Writing the checksums of notes")
        checksum = Column("checksum", Integer, nullable=False, server_default=text("0"))
        operations.add_column("notes", checksum)
        notes.seal(connection)
    return []
