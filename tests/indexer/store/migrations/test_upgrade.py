"""A real store of schema 4, written by the version that had it, is upgraded to this version's."""

from __future__ import annotations

import gzip
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from app.cli.upgrade import upgrade as upgrade_command
from indexer.errors import NeurariumError
from indexer.store import schema
from indexer.store.check import check_run
from indexer.store.database import open_store
from indexer.store.migrations.upgrade import upgrade
from tests.conftest import Silent, serving
from tests.helpers import fixture_store

STORES = Path(__file__).parents[3] / "helpers" / "stores"
PAGES = ["/", "/toy", "/toy/0/0", "/toy/1?sort=max", "/toy/search?text=cat", "/wide/neurons"]
PAGES += ["/toy/search?token_id=2", "/toy/contexts/0", "/runs/1", "/api/v1/models"]


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a copy of a store of schema 4."""
    if request.param == "sqlite":
        path = tmp_path / "old.db"
        path.write_bytes(gzip.decompress((STORES / "schema_4.db.gz").read_bytes()))
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("postgres_url")
    engine = create_engine(url)
    with engine.begin() as connection:
        script = gzip.decompress((STORES / "schema_4.sql.gz").read_bytes()).decode()
        with connection.connection.cursor() as cursor:
            cursor.execute(script)
            cursor.execute("SET search_path TO public")
    engine.dispose()
    return url


def test_an_old_store_answers_as_a_new_one(
    old_url: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused with the command that helps; after it, checked, and every page as of a new store."""
    with pytest.raises(NeurariumError, match="`neurarium upgrade`"):
        open_store(old_url, create=False)
    upgrade_command(old_url)
    assert "from schema 4 to 6" in capsys.readouterr().out
    upgrade_command(old_url)
    assert "up to date (schema 6)" in capsys.readouterr().out
    engine = open_store(old_url, create=False)
    for run in range(1, len(fixture_store.RUNS) + 1):
        report = check_run(engine, run, Silent())
        assert (report.places, report.damaged) == ([], False)
    engine.dispose()
    _has_this_schema(old_url)
    new = "postgres_filled" if old_url.startswith("postgresql") else "sqlite_filled"
    with serving(old_url) as old, serving(request.getfixturevalue(new)) as fresh:
        for page in PAGES:
            answer, expected = old.get(page), fresh.get(page)
            assert (answer.status_code, answer.text) == (200, expected.text)


def _has_this_schema(url: str) -> None:
    """The tables are those that a new store gets."""
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        texts = "context_words"
        differences = [
            difference
            for difference in compare_metadata(context, schema.metadata)
            if not (difference[0] in ("remove_table", "remove_index") and texts in repr(difference))
        ]
    engine.dispose()
    assert not differences


def test_a_run_that_was_damaged_before_stays_refused(tmp_path: Path) -> None:
    """Damage is not sealed with a checksum: the upgrade names the run, and its pages are errors."""
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress((STORES / "schema_4.db.gz").read_bytes()))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE neurons SET mean = mean + 1 WHERE run_id = 2 AND neuron = 1")
    connection.close()
    engine = open_store(f"sqlite:///{path}", create=False, upgrading=True)
    assert upgrade(engine, lambda line: None).damaged == [2]
    assert check_run(engine, 2, Silent()).damaged
    assert not check_run(engine, 3, Silent()).damaged
    engine.dispose()
    with serving(f"sqlite:///{path}") as client:
        assert client.get("/Zebra_2.0/0/0").status_code == 500
        assert client.get("/toy/0/0").status_code == 200


def test_an_upgrade_that_fails_changes_nothing(
    old_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps are one transaction."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("stopped in the middle")

    monkeypatch.setattr("indexer.store.migrations.checksums.finish_run", broken)
    engine = open_store(old_url, create=False, upgrading=True)
    with pytest.raises(RuntimeError):
        upgrade(engine, lambda line: None)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT schema_version FROM store")) == 4
        names = connection.execute(text("SELECT * FROM neurons")).keys()
        assert "checksum" not in list(names)
    engine.dispose()


@pytest.mark.parametrize(
    ("version", "said"),
    [(3, "too old to be upgraded"), (4, "neurarium upgrade"), (99, "update Neurarium")],
)
def test_what_to_do_with_another_version(tmp_path: Path, version: int, said: str) -> None:
    """Each version's refusal says what helps."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    engine = open_store(url, create=True)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE store SET schema_version = {version}"))
    engine.dispose()
    with pytest.raises(NeurariumError) as caught:
        open_store(url, create=False)
    assert said in str(caught.value)
    if said != "update Neurarium":
        assert "update Neurarium" not in str(caught.value)
