"""What the tests of notes share: servers that keep notes, and what is sent to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from pydantic import SecretStr
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings

TOKEN = "a-token-of-readers-1"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
NEURON = "/toy/0/1"
API = "/api/v1/models/toy/layers/0/neurons/1/notes"
OTHER = "/api/v1/models/toy/layers/1/neurons/1/notes"
HOSTILE = (
    "</p></textarea><script>alert(1)</script><img src=x onerror=alert(2)>\n"
    "\u202egnirts\u2066 \u200b\n\tindented {{ 7 * 7 }}\n"
    "שלום, the other way\n" + "x" * 300 + "\na" + "\u0301" * 40
)
"""Markup, characters that turn the direction, a word without end, marks upon marks."""


@contextmanager
def keeping(database_url: str, **settings: Any) -> Iterator[TestClient]:
    """A client of a server that keeps notes."""
    app = create_app(
        Settings(database_url=database_url, notes=True, notes_token=SecretStr(TOKEN), **settings)
    )
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client


def write(client: TestClient, text: str, author: str = "mira", path: str = API) -> dict[str, Any]:
    """A note that was taken."""
    response = client.post(path, json={"author": author, "text": text}, headers=BEARER)
    assert response.status_code == 201, response.text
    note: dict[str, Any] = response.json()
    return note


def texts(client: TestClient, path: str = API) -> list[str]:
    """The texts of the notes at an address, newest first."""
    return [note["text"] for note in client.get(path).json()["items"]]


def send(client: TestClient, path: str = f"{NEURON}/notes", **fields: str) -> Any:
    """The answer to a form, which sends line ends as CR LF."""
    body = urlencode({name: value.replace("\n", "\r\n") for name, value in fields.items()})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return client.post(path, content=body, headers=headers)
