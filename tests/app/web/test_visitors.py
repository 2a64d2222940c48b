"""Requests that another site's page may have made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from app.serving.server import _is_loopback
from app.settings import Settings
from tests.helpers.note_servers import TOKEN, keeping
from tests.helpers.store_copies import copy_store

NOTES = "/api/v1/models/toy/layers/0/neurons/0/notes"


@pytest.fixture(scope="module")
def private(sqlite_filled: str) -> Iterator[TestClient]:
    """A server that answers to loopback names."""
    settings = Settings(database_url=sqlite_filled, allowed_hosts="localhost 127.0.0.1 [::1]")
    with TestClient(create_app(settings), follow_redirects=False) as client:
        yield client


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:8000", "LOCALHOST:1", "[::1]:80", "[::1]"]
)
def test_its_own_names_are_answered(private: TestClient, host: str) -> None:
    """With any port, in any case."""
    assert private.get("/toy/0/0", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[::1].x"]
)
@pytest.mark.parametrize("path", ["/toy/0/0", "/api/v1/models", "/nothing", "/static/x"])
def test_other_names_are_refused(private: TestClient, host: str, path: str) -> None:
    """A name that DNS rebinding brought here reads nothing."""
    answer = private.get(path, headers={"Host": host})
    assert answer.status_code == 400
    assert "NEURARIUM_ALLOWED_HOSTS" in answer.text


def test_a_request_has_one_name_and_one_origin(private: TestClient) -> None:
    """Else a program in front of the server could have read another one."""
    answer = private.get("/toy/0/0", headers=[("Host", "localhost"), ("Host", "evil.example")])
    assert (answer.status_code, "several" in answer.text) == (400, True)
    origins = [("Origin", "http://localhost"), ("Origin", "http://evil.example")]
    answer = private.post("/api/v1/models", headers=[("Host", "localhost"), *origins])
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 201),
        ("http://testserver", 201),
        ("https://testserver", 201),
        ("http://evil.example", 403),
        ("http://testserver.evil.example", 403),
        ("http://testserver:81", 403),
        ("null", 403),
        ("http://[::1", 403),
        ("http://[testserver]", 403),
        ("", 403),
    ],
)
def test_only_its_own_pages_may_write(
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_filled: str,
    origin: str | None,
    status: int,
) -> None:
    """A post with another site's Origin is refused before it does anything."""
    path = tmp_path_factory.mktemp("own") / "store.db"
    with keeping(copy_store(sqlite_filled, path)) as client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        headers |= {} if origin is None else {"Origin": origin}
        sent = client.post(NOTES, json={"author": "me", "text": "x"}, headers=headers)
        assert sent.status_code == status
        assert len(client.get(NOTES).json()["items"]) == (status == 201)


def test_a_last_slash_is_left_out(client: TestClient) -> None:
    """A relative redirect, for reading only, and only to a page that there is."""
    answer = client.get("/toy/0/0/?view=window", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.headers["location"]) == (307, "/toy/0/0?view=window")
    assert client.get("//evil.example/").headers.get("location") in (None, "/evil.example")
    assert client.get("/toy/0/0/nothing/").status_code == 404
    assert client.post("/toy/0/0/").status_code in (404, 405)


def test_what_a_loopback_address_is() -> None:
    """Addresses and the name, not names that only look like them."""
    assert all(map(_is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost"]))
    assert not any(map(_is_loopback, ["0.0.0.0", "::", "192.168.1.2", "127.0.0.1.example"]))
