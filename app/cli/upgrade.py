"""The command `upgrade`: a store of an earlier version becomes one of this version."""

from __future__ import annotations

from app.cli.console import (
    Database,
    err,
    escaped,
    open_store_of,
    out,
    settings_of,
    wait_for_writing,
)


def upgrade(database: Database = None) -> None:
    """Bring a database of an earlier version of Neurarium up to date. Copy it first."""
    from indexer.store.checksums import RESTORE
    from indexer.store.migrations.upgrade import upgrade as upgrade_store
    from indexer.store.schema import SCHEMA_VERSION

    engine = open_store_of(settings_of(database), create=False, upgrading=True)

    def tell(line: str) -> None:
        out.print(escaped(line), highlight=False, soft_wrap=True)

    try:
        wait_for_writing(engine, alone=True)
        done = upgrade_store(engine, tell)
    finally:
        engine.dispose()
    if done.before == SCHEMA_VERSION:
        tell(f"The database is up to date (schema {SCHEMA_VERSION}).")
        return
    for run in done.damaged:
        err.print(f"Run {run} is damaged, so its pages are refused: {RESTORE}", soft_wrap=True)
    tell(f"Upgraded the database from schema {done.before} to {SCHEMA_VERSION}.")
