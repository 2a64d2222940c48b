"""What the tests of the live box share: a live server, and what is sent to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings

NEURON = "/api/v1/models/demo/layers/1/neurons/349"
READ = f"{NEURON}/activations"
TRY = "/demo/1/349/try"
TEXT = "def f(x):\n    if x:\n        return 1\n    else:\n        "


@contextmanager
def live_client_of(database_url: str, **settings: Any) -> Iterator[TestClient]:
    """A client of a server that loads models."""
    app = create_app(Settings(database_url=database_url, live=True, **settings))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def answer(client: TestClient, text: str, path: str = READ) -> dict[str, Any]:
    """What the API says of a text."""
    response = client.post(path, json={"text": text})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found
