"""Notes on neurons as JSON and in the store, in both databases: who may write, what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text
from starlette.testclient import TestClient

from indexer.store import notes as store
from indexer.store.database import changing_apart, open_store
from indexer.store.notes import Note, Place
from tests.conftest import NewDatabase
from tests.helpers.fixture_store import TOY_NEURONS, RunOf
from tests.helpers.note_servers import API, BEARER, NEURON, OTHER, TOKEN, keeping, texts, write

TOY = RunOf("toy", TOY_NEURONS)
SOME_TIME = datetime(2026, 3, 14, 15, 9, 26, 535898, tzinfo=UTC)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a store with one run of `toy`, which all tests here share."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('notes') / 'store.db'}"
    else:
        new_postgres: NewDatabase = request.getfixturevalue("new_postgres")
        url = new_postgres()
    engine = open_store(url, create=True)
    TOY.write(engine)
    engine.dispose()
    return url


@pytest.fixture(scope="module")
def serving_notes(url: str) -> Iterator[TestClient]:
    """A server over that store which keeps notes."""
    with keeping(url) as client:
        yield client


@pytest.fixture
def engine(url: str, serving_notes: TestClient) -> Iterator[Engine]:
    """A connection as another process would have it; there are no notes yet."""
    engine = open_store(url, create=False)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM notes"))
    yield engine
    engine.dispose()


@pytest.fixture
def client(engine: Engine, serving_notes: TestClient) -> TestClient:
    """A client of the server; there are no notes yet."""
    return serving_notes


def note(number: int, **fields: Any) -> Note:
    """A note of the store; by its number another time."""
    made: dict[str, Any] = {"model": "toy", "layer": 0, "neuron": 1, "author": "k", "text": "x"}
    return Note(**made | {"time": SOME_TIME + timedelta(hours=number)} | fields)


# --- Writing, reading, deleting -----------------------------------------------------------------


def test_a_note_is_kept_and_read_again(client: TestClient) -> None:
    """What comes back is what was sent, with a number and the time; newest first, by neuron."""
    before = datetime.now(UTC)
    first = write(client, "One.\n\n\tTwo: é 🙂 <b>", author="  Mira  ")
    second = write(client, "Later.")
    write(client, "Elsewhere.", path=OTHER)
    assert (first["author"], first["text"]) == ("Mira", "One.\n\n\tTwo: é 🙂 <b>")
    assert (first["model"], first["layer"], first["neuron"]) == ("toy", 0, 1)
    assert before <= datetime.fromisoformat(first["time"]) <= datetime.now(UTC)
    assert client.get(API).json() == {"items": [second, first], "next": None}
    assert texts(client, OTHER) == ["Elsewhere."]
    assert texts(client, "/api/v1/notes") == ["Elsewhere.", "Later.", "One.\n\n\tTwo: é 🙂 <b>"]


def test_a_deleted_note_is_gone_and_its_number_with_it(client: TestClient) -> None:
    """What it was comes back once; the next note has another number."""
    kept, last = write(client, "stays"), write(client, "goes")
    response = client.delete(f"{API}/{last['id']}", headers=BEARER)
    assert (response.status_code, response.json()) == (200, last)
    assert client.delete(f"{API}/{last['id']}", headers=BEARER).status_code == 404
    assert client.get(API).json()["items"] == [kept]
    assert write(client, "new")["id"] > last["id"]


def test_a_note_is_deleted_by_its_own_neuron_alone(client: TestClient) -> None:
    """Not by its number below another neuron, nor by a number that no database has."""
    number = write(client, "stays")["id"]
    for path in (f"{OTHER}/{number}", f"{API}/{2**63 - 1}", API.replace("toy", "%00") + "/1"):
        assert client.delete(path, headers=BEARER).status_code == 404
    far = API.replace("/0/", f"/{2**80}/")
    assert client.delete(f"{far}/{number}", headers=BEARER).status_code == 404
    assert texts(client) == ["stays"]


def test_pages_of_notes_follow_one_another(engine: Engine, client: TestClient) -> None:
    """By keyset, whatever comes in between; notes of one time are told apart."""
    for number in range(7):
        store.add(engine, note(number // 3, text=str(number)))
    store.add(engine, note(1, neuron=2, text="other"))
    for path, expected in ((API, "6543210"), ("/api/v1/notes", ["6", "other", *"543210"])):
        found, cursor = [], ""
        while cursor is not None:
            page = client.get(path, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
            found += [item["text"] for item in page.json()["items"]]
            cursor = page.json()["next"]
        assert found == list(expected)


# --- Who may ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("", 401),
        ("Basic dTpw", 401),
        (TOKEN, 401),
        ("Bearer wrong", 403),
        (f"Bearer {TOKEN}x", 403),
        (f"Bearer {TOKEN[:-1]}", 403),
        ("Bearer \xe9\xff", 403),
    ],
)
def test_nothing_is_kept_without_the_token(
    client: TestClient, header: str | None, status: int
) -> None:
    """None, or another kind: 401, and which is wanted; another token: 403. Nothing changes."""
    number = write(client, "stays")["id"]
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    body = {"author": "x", "text": "y"}
    for response in (
        client.post(API, json=body, headers=headers),
        client.delete(f"{API}/{number}", headers=headers),
    ):
        assert response.status_code == status
        assert response.json()["error"] == {401: "unauthorized", 403: "forbidden"}[status]
        assert (response.headers.get("www-authenticate") == "Bearer") == (status == 401)
        assert TOKEN not in response.text
    assert texts(client) == ["stays"]


# --- What is taken ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"author": "x", "text": ""}, 422, "The note is empty"),
        ({"author": "x", "text": " \n\t "}, 422, "The note is empty"),
        ({"author": " ", "text": "y"}, 422, "The author line is empty"),
        ({"author": "x" * 81, "text": "y"}, 422, "81 characters: the maximum is 80"),
        ({"author": "x", "text": "y" * 4001}, 422, "4,001 characters: the maximum is 4,000"),
        ({"author": "x", "text": "y" * 70_000}, 413, "larger than any note"),
        ({"author": "x\ny", "text": "z"}, 422, "U+000A"),
        ({"author": "x", "text": "a\0b"}, 422, "U+0000"),
        ({"author": "x", "text": "a\x1b[31mb"}, 422, "U+001B"),
        ({"author": "x", "text": "a\x85b"}, 422, "U+0085"),
        ({"author": "x"}, 422, "'text' of the body"),
        ({"author": "x", "text": "y", "time": "now"}, 422, "'time' of the body"),
        ({"author": 1, "text": "y"}, 422, "'author' of the body"),
        ([], 422, "send JSON such as"),
    ],
)
def test_what_is_no_note_is_refused(
    client: TestClient, body: object, status: int, said: str
) -> None:
    """What is wrong is said, and nothing is kept."""
    response = client.post(API, json=body, headers=BEARER)
    assert response.status_code == status
    assert said in response.json()["detail"]
    assert texts(client) == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"author": "\\ud800", "text": "y"}'])
def test_what_is_not_json_is_refused(client: TestClient, body: bytes) -> None:
    """A body that cannot be read, and half a character."""
    assert client.post(API, content=body, headers=BEARER).status_code == 422
    assert texts(client) == []


def test_the_longest_note_is_taken(client: TestClient) -> None:
    """4,000 characters of any size, however they are spelled."""
    longest = "🙂" * 4000
    assert write(client, longest, author="é" * 80)["text"] == longest  # as \\ud83d\\ude42
    assert texts(client) == [longest]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/models/nobody/layers/0/neurons/0/notes",
        "/api/v1/models/toy/layers/9/neurons/0/notes",
        f"/api/v1/models/toy/layers/0/neurons/{2**70}/notes",
        "/api/v1/models/a%00b/layers/0/neurons/0/notes",
    ],
)
def test_there_are_no_notes_on_what_is_not_there(client: TestClient, path: str) -> None:
    """Neither read nor written."""
    assert client.get(path).status_code == 404
    body = {"author": "x", "text": "y"}
    assert client.post(path, json=body, headers=BEARER).status_code == 404
    assert texts(client, "/api/v1/notes") == []


@pytest.mark.parametrize("cursor", ["x", "WyJhIiwgMV0", "WyIwMDAxLTAxLTAxVDAwOjAwKzE0OjAwIiwgMV0"])
def test_a_cursor_of_another_kind_is_refused(client: TestClient, cursor: str) -> None:
    """No time in it, or one that no database has."""
    assert client.get("/api/v1/notes", params={"cursor": cursor}).status_code == 422


def test_one_note_is_not_read_alone(client: TestClient) -> None:
    """Its address can only be deleted."""
    response = client.get(f"{API}/1")
    assert (response.status_code, response.headers["allow"]) == (405, "DELETE")


# --- Tags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [NEURON, f"{NEURON}?view=window", f"{NEURON}/notes", API])
def test_a_note_is_seen_by_the_next_request(engine: Engine, client: TestClient, path: str) -> None:
    """By any server: nobody is told that a page is unchanged where a note came or went."""
    place, seen = Place("toy", 0, 1), []

    def look() -> str:
        response = client.get(path, headers={"If-None-Match": seen[-1] if seen else ""})
        assert response.status_code == 200
        seen.append(response.headers["etag"])
        again = client.get(path, headers={"If-None-Match": seen[-1]})
        assert again.status_code == 304
        body: str = response.text
        return body

    look()
    first = store.add(engine, note(0, text="first words"))
    assert "first words" in look()
    second = store.add(engine, note(1, text="second words"))
    assert "second words" in look()
    assert store.remove(engine, place, first)
    assert "first words" not in look()
    third = store.add(engine, note(2, text="third words"))
    assert "third words" in look()
    assert store.remove(engine, place, second)
    assert "second words" not in look()
    assert store.remove(engine, place, third)
    look()
    assert len(set(seen[:-1])) == 6
    assert seen[-1] == seen[0]


def test_a_note_changes_no_other_page(engine: Engine, client: TestClient) -> None:
    """Other neurons, models and the JSON of models keep their tags; pages that list the neuron, as
    galleries may, and its JSON, do not."""
    paths = ["/toy/0/2", "/toy/1/1", OTHER, "/api/v1/models"]
    changed = [
        "/",
        "/toy",
        "/toy/0",
        "/list?n=toy/0/1",
        API.removesuffix("/notes"),
        "/notes",
        "/toy/notes",
    ]
    seen = [client.get(path).headers["etag"] for path in changed]
    before = [client.get(path).headers["etag"] for path in paths]
    store.add(engine, note(0))
    assert [client.get(path).headers["etag"] for path in paths] == before
    after = [client.get(path).headers["etag"] for path in changed]
    assert not set(seen) & set(after)


# --- When somebody else writes --------------------------------------------------------------------


def test_a_note_waits_only_so_long_for_a_run(
    url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes a note while another writes is told to come again; pages are served."""
    monkeypatch.setattr(store, "PATIENCE", 1)
    with keeping(url) as client, changing_apart(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE notes IN SHARE ROW EXCLUSIVE MODE"))
        for response in (
            client.post(API, json={"author": "x", "text": "y"}, headers=BEARER),
            client.delete(f"{API}/1", headers=BEARER),
        ):
            assert response.status_code == 503
            assert response.headers["retry-after"] == "5"
            assert "Another process" in response.json()["detail"]
        assert texts(client) == []
        assert client.get(NEURON).status_code == 200
