"""What visitors are told when the server's database was taken away, hangs or is busy."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from starlette.testclient import TestClient

from app.notes.service import WRITERS
from indexer.store import limits
from indexer.store import notes as store
from indexer.store.database import changing_apart, open_store
from tests.conftest import NewDatabase, fill
from tests.helpers.fixture_store import TOY_NEURONS, RunOf
from tests.helpers.note_servers import API, BEARER, NEURON, keeping, texts, write

NOTE = {"author": "mira", "text": "a thought"}
PAGES = ["/", NEURON, "/healthz", "/api/v1/models", API, f"{NEURON}/notes", "/toy/neurons?q=max>0"]
SECONDS = 60
"""For an answer that comes or does not: far more than any takes."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one run."""
    engine = open_store(f"sqlite:///{tmp_path / 'store.db'}", create=True)
    RunOf("toy", TOY_NEURONS).write(engine)
    engine.dispose()
    return tmp_path / "store.db"


def refused(client: TestClient, what: str) -> None:
    """No page, no health, and no note that would be lost."""
    for address in PAGES:
        response = client.get(address)
        assert response.status_code == 503, address
        assert what in response.text
        assert "store.db" not in response.text
    for response in (
        client.post(API, json=NOTE, headers=BEARER),
        client.delete(f"{API}/1", headers=BEARER),
    ):
        assert response.status_code == 503
        assert what in response.json()["detail"]


def test_a_file_that_is_taken_away_is_noticed_and_back_again(path: Path, tmp_path: Path) -> None:
    """Removed, replaced by another store, replaced by a folder; put back, it is served again."""
    other = tmp_path / "other.db"
    with fill(f"sqlite:///{other}"), keeping(f"sqlite:///{path}") as client:
        write(client, "kept")
        tag = client.get(NEURON).headers["etag"]
        away = path.rename(tmp_path / "away.db")
        refused(client, "was removed or replaced")
        assert not path.exists(), "no new file is made in its place"
        assert client.get(NEURON, headers={"If-None-Match": tag}).status_code == 503
        shutil.copy(other, path)
        refused(client, "was removed or replaced")
        path.unlink()
        path.mkdir()
        refused(client, "was removed or replaced")
        path.rmdir()
        away.rename(path)
        assert client.get("/healthz").json()["runs"] == 1
        assert texts(client) == ["kept"]
        assert client.post(API, json=NOTE, headers=BEARER).status_code == 201


def test_a_note_in_a_file_that_goes_meanwhile_is_not_confirmed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is removed after the note's transaction began."""
    with keeping(f"sqlite:///{path}") as client:
        count = store.insert

        def remove_first(table: Any) -> Any:
            path.unlink(missing_ok=True)
            return count(table)

        monkeypatch.setattr(store, "insert", remove_first)
        response = client.post(API, json=NOTE, headers=BEARER)
    assert response.status_code in (403, 503)
    assert not path.exists()


def test_a_log_that_was_removed_is_named(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SQLite's log of changes, deleted beside a database in use: 503, and what to do."""
    with keeping(f"sqlite:///{path}") as client:
        client.get(NEURON)
        store_of_site: Any = client.app.state.site.store  # type: ignore[attr-defined]
        with store_of_site.connect() as old:  # knows the deleted log, the next connection does not
            old.execute(text("SELECT 1 FROM runs"))
            Path(f"{path}-wal").unlink()
            assert client.post(API, json=NOTE, headers=BEARER).status_code == 503
    assert "SQLITE_IOERR_SHORT_READ" in caplog.text
    assert "restart the server" in caplog.text


def test_a_file_that_is_overwritten_is_read_anew(path: Path, tmp_path: Path) -> None:
    """`cp` keeps the file, and changes all that is in it: pages are of the new store, or errors."""
    other = tmp_path / "other.db"
    with fill(f"sqlite:///{other}"), keeping(f"sqlite:///{other}") as right:
        expected = {path: right.get(path).text for path in ("/", "/toy", "/toy/1/1", "/runs/3")}
    with keeping(f"sqlite:///{path}") as client:
        assert client.get("/runs/3").status_code == 404
        client.get("/toy/1/1")
        shutil.copyfile(other, path)
        for address, page in expected.items():
            response = client.get(address)
            assert response.status_code >= 500 or response.text == page, address


def test_writers_leave_pages_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a run is written, a few of 60 notes wait and the others are refused at once; pages are
    answered. When the run is written, those that waited are taken."""
    monkeypatch.setattr(store, "PATIENCE", SECONDS)
    engine = open_store(f"sqlite:///{path}", create=False)
    with keeping(f"sqlite:///{path}") as client, ThreadPoolExecutor(60) as visitors:
        with changing_apart(engine):
            sent = [visitors.submit(client.post, API, json=NOTE, headers=BEARER) for _ in range(60)]
            first = next(as_completed(sent, SECONDS))
            for _ in range(5):
                assert client.get(NEURON).status_code == 200
            assert texts(client) == []
        answers = [each.result(SECONDS) for each in sent]
        taken = [answer for answer in answers if answer.status_code == 201]
        assert 1 <= len(taken) <= WRITERS
        for answer in answers:
            assert answer in taken or (answer.status_code, answer.headers["retry-after"]) == (
                503,
                "5",
            )
        assert first.result().status_code == 503
        assert len(texts(client)) == len(taken)
    engine.dispose()


@contextmanager
def stopped(url: str) -> Iterator[None]:
    """The PostgreSQL server of a database stands still: it ends no connection, and answers none."""
    admin = create_engine(url)
    with admin.connect() as connection:
        lines = connection.scalar(text("SELECT pg_read_file('postmaster.pid')"))
        pids = connection.scalars(text("SELECT pid FROM pg_stat_activity")).all()
    admin.dispose()
    main = lines.split()[0]

    def signalled(number: int) -> None:
        for pid in (int(main), *pids):
            with suppress(ProcessLookupError):  # a connection's process may have ended meanwhile
                os.kill(pid, number)

    try:
        signalled(signal.SIGSTOP)
        yield
    finally:
        signalled(signal.SIGCONT)


def test_a_postgres_that_hangs_is_503(
    new_postgres: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On old connections, on new ones, and in the middle of a query; afterwards it is served."""
    for name, seconds in (("ALIVE", 0.5), ("ANSWER", 1), ("CONNECT", 2), ("QUERY", 0.5)):
        monkeypatch.setattr(limits, name, seconds)
    url = new_postgres()
    engine = open_store(url, create=True)
    RunOf("toy", TOY_NEURONS).write(engine)
    engine.dispose()
    with keeping(url) as client, ThreadPoolExecutor(8) as visitors:
        assert client.get(NEURON).status_code == 200
        store_of_site: Any = client.app.state.site.store  # type: ignore[attr-defined]
        with store_of_site.connect() as used:
            with store_of_site.connect():
                pass  # a connection that waits for its next use
            used.execute(text("SELECT 1"))
            with stopped(url):
                asked = [visitors.submit(client.get, page) for page in PAGES]
                asked.append(visitors.submit(client.post, API, json=NOTE, headers=BEARER))
                for request in asked:
                    response = request.result(SECONDS)
                    assert response.status_code == 503
                    assert "does not answer" in response.text
                    assert response.headers["retry-after"]
                with pytest.raises(Exception, match="did not answer within 1 seconds"):
                    used.execute(text("SELECT 1"))
        assert client.get(NEURON).status_code == 200
        assert texts(client) == []
        with store_of_site.connect() as slow, pytest.raises(Exception, match="statement timeout"):
            slow.execute(text("SELECT pg_sleep(30)"))
