"""The hand-written store that is exported, and what its API says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from indexer.store.database import open_store
from indexer.store.runs import list_runs
from indexer.store.transfer.records import run_row
from tests.conftest import serving
from tests.helpers.fixture_store import write_all


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hand-written store in SQLite."""
    url = f"sqlite:///{tmp_path_factory.mktemp('export') / 'store.db'}"
    engine = open_store(url, create=True)
    write_all(engine)
    engine.dispose()
    return url


@pytest.fixture(scope="module")
def api(database: str) -> Iterator[Any]:
    """What the API says of a path."""
    with serving(database) as client:
        yield lambda path: client.get(f"/api/v1{path}").json()


def hashes(url: str) -> dict[str, set[str]]:
    """The content hashes of a store's runs, by model."""
    engine = open_store(url, create=False)
    found: dict[str, set[str]] = {}
    with engine.connect() as connection:
        for run in list_runs(engine):
            row = run_row(connection, run.id)
            found.setdefault(row.model, set()).add(row.content_hash)
    engine.dispose()
    return found
