"""What the tests of live models share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.helpers.live_servers import live_client_of


@pytest.fixture(scope="module")
def live_client(demo_store: str) -> Iterator[TestClient]:
    """A live server over the indexed demo."""
    with live_client_of(demo_store) as client:
        yield client
