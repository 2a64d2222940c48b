"""A small run of the bundled model's heads, as its server shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.conftest import serving

API = "/api/v1/models/demo/heads"
"""The address of the JSON of its heads."""


@pytest.fixture(scope="module")
def client(heads_store: tuple[str, Path]) -> Iterator[TestClient]:
    """A client of a server over it."""
    with serving(heads_store[0]) as client:
        yield client


@pytest.fixture(scope="module")
def pages(client: TestClient) -> dict[tuple[int, int], dict[str, Any]]:
    """The JSON of all heads."""
    return {
        (layer, head): client.get(f"{API}/{layer}/{head}").json()
        for layer in range(2)
        for head in range(5)
    }
