"""One run in two databases: two servers asked as one, and the run as plain Python reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from starlette.testclient import TestClient

from app.neurons.schemas import NeuronPage
from app.reading import store as reading
from indexer.store.database import open_store
from indexer.store.packing.codec import unpack_arrays
from tests.helpers import readers

Place = tuple[int, int]
"""A layer and a neuron of it."""


class Both:
    """The two servers, asked as one."""

    def __init__(self, sqlite: TestClient, postgres: TestClient) -> None:
        self._servers = sqlite, postgres

    def get(self, path: str, **query: Any) -> Any:
        """What both answer, which is the same but for the time at which each was indexed."""
        answers = [server.get(path, params=query) for server in self._servers]
        assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
        here, there = (answer.json() for answer in answers)
        assert _timeless(here) == _timeless(there), (path, query)
        return here

    def all(self, path: str, **query: Any) -> list[Any]:
        """The items of all pages of a list."""
        items: list[Any] = []
        page = self.get(path, **query)
        while True:
            items += page["items"]
            if page["next"] is None:
                return items
            page = self.get(path, **query, cursor=page["next"])


def _timeless(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {key: _timeless(value) for key, value in answer.items() if key != "created_at"}
    return [_timeless(one) for one in answer] if isinstance(answer, list) else answer


@dataclass(frozen=True, repr=False)
class Store:
    """The run, as the oracles read it."""

    both: Both
    pages: dict[Place, NeuronPage]
    context_ids: list[int]
    vocabulary: list[bytes]
    peaks: dict[Place, list[float]]
    """Of a few neurons, the peaks that are kept of the sample, out of their rows."""


def read_all(both: Both, url: str) -> Store:
    """The run of the demo in a store, and the two servers over it."""
    engine = open_store(url, create=False)
    reader = reading.Store(engine)
    layers = readers.model(reader, "demo", None).layers
    places = [(one.layer, neuron) for one in layers for neuron in range(one.neurons)]
    pages = {place: readers.neuron(reader, "demo", *place, None) for place in places}
    with engine.connect() as connection:
        ids = connection.scalars(text("SELECT context_id FROM contexts ORDER BY context_id")).all()
        spelled = connection.scalars(text("SELECT bytes FROM vocabulary ORDER BY token_id")).all()
        packed = connection.scalars(text("SELECT packed FROM neuron_arrays ORDER BY neuron_id"))
        peaks = {}
        for place, some in zip(places, packed, strict=True):
            stats = pages[place].stats
            unit = 1.0
            while unit <= max(abs(stats.min), abs(stats.max)):
                unit *= 2
            while unit / 2 > max(abs(stats.min), abs(stats.max), 1e-30):
                unit /= 2
            peaks[place] = [float(one) * unit for one in unpack_arrays(some)["sample_peaks"]]
    reader.close()
    return Store(both, pages, list(ids), [bytes(one) for one in spelled], peaks)
