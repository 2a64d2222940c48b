"""The table of notes: created on demand, it outlives runs; servers without notes do not touch
it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import SecretStr
from sqlalchemy import Engine, inspect, text
from sqlalchemy.engine import make_url

from app.main import create_app
from app.settings import Settings
from indexer.errors import NeurariumError
from indexer.store import notes as store
from indexer.store.checksums import Damaged
from indexer.store.database import open_store
from indexer.store.migrations.upgrade import upgrade
from indexer.store.notes import Note, Place
from indexer.store.runs import delete_run
from tests.conftest import NewDatabase, serving
from tests.helpers.fixture_store import CONSTANT, DEAD, TIED, TOY_NEURONS, RunOf
from tests.helpers.note_servers import API, BEARER, NEURON, OTHER, keeping, texts, write

TOY = RunOf("toy", TOY_NEURONS)
NOTE = {"author": "a", "text": "b"}
NARROW = RunOf("toy", ((CONSTANT, DEAD), (TIED,)), "mlp.hook_pre", default=False)


@pytest.fixture
def fresh(any_url: str) -> Iterator[Engine]:
    """A store without notes."""
    engine = open_store(any_url, create=True)
    TOY.write(engine)
    yield engine
    engine.dispose()


def test_the_table_is_made_once_by_who_needs_it(fresh: Engine) -> None:
    """The table is not created with the store; a second `prepare` changes nothing."""
    assert not inspect(fresh).has_table("notes")
    store.prepare(fresh)
    number = store.add(fresh, Note("toy", 0, 1, datetime(2026, 3, 14, tzinfo=UTC), "k", "x"))
    store.prepare(fresh)
    assert [row.id for row in store.read(fresh, None, 9).rows] == [number]


def damaged_notes(engine: Engine, capsys: pytest.CaptureFixture[str]) -> str:
    """What `neurarium check` says of a database whose runs are whole."""
    from app.cli.check import check

    with pytest.raises(typer.Exit) as left:
        check(None, every=True, database=engine.url.render_as_string(hide_password=False))
    said = capsys.readouterr().out
    assert left.value.exit_code == ("table notes" in said)
    return said


CHANGES = [
    *("text = 'another text'", "author = 'somebody else'", "checksum = checksum + 1"),
    *("id = 77", "time = '2026-03-15 00:00:00.000000'", "model = 'wide'", "layer = 1"),
]
"""Damage of a note: of its words, and of its place."""


def test_a_damaged_note_is_noticed_wherever_it_is_read(
    fresh: Engine, any_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pages and JSON that show it are refused, others are not, and `neurarium check` names it."""
    with keeping(any_url, page_memory=0) as client:
        for text_of in ("first", "of words"):
            write(client, text_of, path=OTHER)
        number = write(client, "of words")["id"]
        pages = ["/api/v1/notes", "/notes", f"{NEURON}/notes", NEURON, API]
        pages += ["/api/v1/list?n=toy/0/1", "/api/v1/models/toy/export?format=jsonl"]
        right = {page: client.get(page) for page in [*pages, OTHER]}
        shown = [page for page in pages if "of words" in right[page].text]
        assert len(shown) > 5
        assert "table notes" not in damaged_notes(fresh, capsys)
        for change in CHANGES:
            with fresh.begin() as connection:
                whole = connection.execute(text(f"SELECT * FROM notes WHERE id = {number}")).one()
                connection.execute(text(f"UPDATE notes SET {change} WHERE id = {number}"))
            place = change.split(" ")[0]
            for page in shown if place not in ("model", "layer") else ["/api/v1/notes", "/notes"]:
                answer = client.get(page)
                assert answer.status_code == 500, (change, page)
                assert "of words" not in answer.text
                assert "another text" not in answer.text
            if place != "layer":
                assert client.get(OTHER).text == right[OTHER].text
            said = damaged_notes(fresh, capsys)
            assert "1 note is damaged" in said
            assert f"row id={77 if place == 'id' else number}" in said
            with fresh.begin() as connection:
                connection.execute(text(f"DELETE FROM notes WHERE id IN ({number}, 77)"))
                names = ", ".join(whole._mapping)
                values = ", ".join(f":{name}" for name in whole._mapping)
                connection.execute(
                    text(f"INSERT INTO notes ({names}) VALUES ({values})"), dict(whole._mapping)
                )
        assert {page: client.get(page).text for page in shown} == {
            page: right[page].text for page in shown
        }
    with fresh.begin() as connection:
        connection.execute(text("UPDATE notes SET text = 'x'"))
    with pytest.raises(Damaged):
        store.remove(fresh, Place("toy", 0, 1), number)
    with pytest.raises(Damaged):
        list(store.walk(fresh))


def test_notes_get_checksums_when_a_store_is_upgraded(fresh: Engine, any_url: str) -> None:
    """Notes of schema 5, which had none, are kept word for word; ids go on from the highest."""
    store.prepare(fresh)
    time = datetime(2026, 3, 14, 1, 2, 3, 456789, tzinfo=UTC)
    given = [Note("toy", 0, n % 2, time, "k", f"naïve 🦉 {n}") for n in range(3)]
    assert store.merge(fresh, [*given, given[0]]) == (3, 1)
    before = [tuple(row) for row in store.read(fresh, None, 9).rows]
    with fresh.begin() as connection:
        connection.execute(text("ALTER TABLE notes DROP COLUMN checksum"))
        connection.execute(text("UPDATE store SET schema_version = 5"))
    with pytest.raises(NeurariumError, match="`neurarium upgrade`"):
        open_store(any_url, create=False)
    engine = open_store(any_url, create=False, upgrading=True)
    assert upgrade(engine, lambda line: None).before == 5
    assert [tuple(row) for row in store.read(engine, None, 9).rows] == before
    assert store.merge(engine, given) == (0, 3)
    number = store.add(engine, given[0])
    assert number > max(row.id for row in store.read(engine, None, 9).rows if row.id != number)
    engine.dispose()


def test_a_store_without_notes_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """A server without notes does not change an SQLite file."""
    path = tmp_path / "store.db"
    engine = open_store(f"sqlite:///{path}", create=True)
    TOY.write(engine)
    engine.dispose()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    before = path.read_bytes()
    with serving(f"sqlite:///{path}") as client:
        assert client.get(NEURON).status_code == 200
    assert path.read_bytes() == before


def test_a_database_that_cannot_be_written_takes_no_notes(tmp_path: Path) -> None:
    """An address that only reads: pages are served, also those of notes without their table."""
    path = tmp_path / "store.db"
    engine = open_store(f"sqlite:///{path}", create=True)
    TOY.write(engine)
    engine.dispose()
    for option in ("mode=ro", "immutable=1"):
        with keeping(f"sqlite:///file:{path}?{option}&uri=true") as client:
            page = client.get(NEURON)
            assert page.status_code == 200
            assert "Save note" not in page.text
            assert client.get("/notes").status_code == client.get(f"{NEURON}/notes").status_code
            assert texts(client) == []
            response = client.post(API, json=NOTE, headers=BEARER)
            assert response.status_code == 403
            assert "read-only" in response.json()["detail"]


def test_a_postgres_that_only_reads_takes_no_notes(new_postgres: NewDatabase) -> None:
    """A session that may not write, as on a standby; a role that may only write notes does."""
    url = make_url(new_postgres())
    address = url.render_as_string(hide_password=False)
    engine = open_store(address, create=True)
    TOY.write(engine)
    reads = url.update_query_dict({"options": "-c default_transaction_read_only=on"})
    with keeping(reads.render_as_string(hide_password=False)) as client:
        assert client.get(NEURON).status_code == 200
        response = client.post(API, json=NOTE, headers=BEARER)
        assert response.status_code == 403
        assert "read-only" in response.json()["detail"]
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE writes_notes LOGIN"))
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO writes_notes"))
    role = url.set(username="writes_notes").render_as_string(hide_password=False)
    try:
        with keeping(role) as client:
            assert client.post(API, json=NOTE, headers=BEARER).status_code == 403
        store.prepare(engine)
        with engine.begin() as connection:
            connection.execute(text("GRANT ALL ON notes, notes_id_seq TO writes_notes"))
        with keeping(role) as client:
            write(client, "mine")
            app: Any = client.app
            assert app.state.site.read_only
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP OWNED BY writes_notes"))
            connection.execute(text("DROP ROLE writes_notes"))
        engine.dispose()


def test_notes_are_of_the_neuron_and_not_of_its_run(fresh: Engine, any_url: str) -> None:
    """Notes survive the deletion of all runs; the next run of the model shows them. Runs can be
    written while a server accepts notes."""
    with keeping(any_url) as client:
        write(client, "on all runs")
        second = NARROW.write(fresh)
        assert "on all runs" in client.get(f"{NEURON}?run={second}").text
        assert delete_run(fresh, 1)
        assert texts(client) == ["on all runs"]
        assert delete_run(fresh, second)
        assert client.get(API).status_code == 404
        assert texts(client, "/api/v1/notes") == ["on all runs"]
        TOY.write(fresh)
        assert "on all runs" in client.get(NEURON).text
        # A neuron that the default run lacks has notes too.
        RunOf("toy", ((TIED,) * 9,), "mlp.hook_pre", default=False).write(fresh)
        path = API.replace("neurons/1", "neurons/8")
        write(client, "only in the wide one", path=path)
        assert texts(client, path) == ["only in the wide one"]


def test_a_server_without_notes_has_none(fresh: Engine, any_url: str) -> None:
    """Its routes refuse notes, its pages do not show them, and it creates no table."""
    with serving(any_url) as client:
        for method, path in (
            ("GET", API),
            ("POST", API),
            ("DELETE", f"{API}/1"),
            ("GET", "/api/v1/notes"),
            ("GET", f"{NEURON}/notes"),
            ("POST", f"{NEURON}/notes"),
        ):
            response = client.request(method, path, headers=BEARER)
            assert response.status_code == 404
            assert "without --notes" in response.text
        assert "notes" not in client.get(NEURON).text.lower()
    assert not inspect(fresh).has_table("notes")
    assert list(store.walk(fresh)) == []


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, "Notes need a token"),
        ("", "Notes need a token"),
        ("fifteen-letters", "has 15 characters: the minimum is 16"),
        ("a token with blanks in it", "without spaces"),
        ("ein-schlüssel-mit-ü", "ASCII"),
    ],
)
def test_a_token_has_to_be_there_and_long(store_url: str, token: str | None, message: str) -> None:
    """The server refuses to start and says why, without the token."""
    secret = None if token is None else SecretStr(token)
    settings = Settings(database_url=store_url, notes=True, notes_token=secret)
    with pytest.raises(NeurariumError, match=message) as raised:
        create_app(settings)
    assert not token or token not in str(raised.value)
    assert "\n" not in str(raised.value)
