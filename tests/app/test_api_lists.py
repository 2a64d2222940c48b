"""JSON of lists, runs and the server's health."""

from __future__ import annotations

from starlette.testclient import TestClient

from tests.helpers import fixture_store
from tests.helpers.fixture_store import RUNS


def test_a_list_is_items_and_next(client: TestClient) -> None:
    """Models and neurons come as {items, next}; a cursor in `next` gives the rest."""
    for address in ("/api/v1/models", "/api/v1/models/wide/layers/0/neurons"):
        everything = client.get(address).json()
        assert set(everything) == {"items", "next"}
        assert everything["next"] is None
        first = client.get(address, params={"limit": 3}).json()
        rest = client.get(address, params={"cursor": first["next"]}).json()
        assert first["items"] + rest["items"] == everything["items"]
        assert rest["next"] is None


def test_lists_start_from_the_largest(client: TestClient) -> None:
    """Without `order` neurons count up and statistics come down."""
    address = "/api/v1/models/wide/layers/0/neurons"
    default = client.get(address).json()["items"]
    assert [row["neuron"] for row in default] == list(range(37))
    largest = client.get(address, params={"sort": "max"}).json()["items"]
    maxima = [row["max"] for row in largest]
    assert maxima == sorted(maxima, reverse=True)


def test_a_run_says_where_it_came_from(client: TestClient) -> None:
    """/runs/{run} has the run in short and its provenance in full."""
    run = client.get("/api/v1/runs/1").json()
    assert run["provenance"] == fixture_store.PROVENANCE
    assert (run["n_layers"], run["n_neurons"], run["revision"]) == (2, 8, "main")
    assert run["sample"] == {"contexts": 8, "positions": 20}


def test_health_counts_the_runs(any_client: TestClient) -> None:
    """/healthz asks the database, and is not kept."""
    response = any_client.get("/healthz")
    assert response.json()["status"] == "ok"
    assert response.json()["runs"] == len(RUNS)
    assert response.headers["cache-control"] == "no-store"
