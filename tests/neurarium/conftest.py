"""What a module opens as `opened`, also behind a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import neurarium
from neurarium.objects import Store


@pytest.fixture(scope="module")
def connected(opened: Store) -> Iterator[Store]:
    """The same store behind a server in a thread of this process."""
    with neurarium.serve(opened) as server, neurarium.connect(server.url) as store:
        yield store
