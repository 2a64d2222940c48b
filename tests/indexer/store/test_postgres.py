"""SQLite and PostgreSQL give the same answers, and runs that are not ready are invisible."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text, update
from sqlalchemy.engine import make_url
from starlette.testclient import TestClient

from indexer.store import schema
from indexer.store.database import open_store
from tests.conftest import NewDatabase, serving
from tests.helpers import fixture_store
from tests.helpers.fixture_store import RUNS, TOY_PRE


def addresses() -> list[str]:
    """All JSON URLs of the fixture store, and invalid ones."""
    urls = ["/healthz", "/api/v1/models", "/api/v1/models?limit=2", "/api/v1/models/nobody"]
    for number, run in enumerate(RUNS, 1):
        base, query = f"/api/v1/models/{run.model}", f"run={number}"
        urls += [f"/api/v1/runs/{number}", f"{base}?{query}", base]
        for layer, neurons in enumerate(run.layers):
            urls += [
                f"{base}/layers/{layer}/neurons?{query}&sort={sort}&order={order}&limit=3"
                for sort in ("neuron", "max", "density", "mean", "kurtosis")
                for order in ("asc", "desc")
            ]
            if run.model != "wide":
                urls += [
                    f"{base}/layers/{layer}/neurons/{neuron}?{query}"
                    for neuron in range(len(neurons) + 1)
                ]
        urls += searches(base, query)
    return [
        *urls,
        "/api/v1/compare?a=toy/0/0&b=1/1",
        "/api/v1/compare?a=toy/0/0&b=Zebra_2.0/0/1",
        f"/api/v1/compare?a=toy/1/1&b=%2Ftoy%2F0%2F1%3Frun%3D{fixture_store.FIRST_TOY}",
        "/api/v1/compare?a=nobody/0/0&b=0/0",
        f"/api/v1/list?n=toy/0/0,1/1,0/99,Zebra_2.0/0/1,%2Ftoy%2F0%2F1%3Frun%3D{TOY_PRE}",
        "/api/v1/list?n=nobody/0/0,what",
    ]


def searches(base: str, query: str) -> list[str]:
    """Searches of every kind, with and without results."""
    urls = [f"{base}/tokens?{query}&prefix={prefix}" for prefix in ("a", "%20", "%3C", "no+such")]
    urls += [
        f"{base}/search/token?{query}&token_id={token_id}&limit=3{role}"
        for token_id in (0, 1, 2, 3, 5, 15, 999_999)
        for role in ("", *(f"&as={role}" for role in schema.ROLES))
    ]
    urls += [
        f"{base}/search/text?{query}&limit=2&q={q}"
        for q in ("a", "a*", "%22a+b%22", "the+a", "script", "no+such", "%22")
    ]
    urls += [
        f"{base}/contexts/{context}?{query}&limit=3{at}"
        for context in (0, 1, 3, 7, 999)
        for at in ("", "&at=1", "&at=2", "&at=999")
    ]
    urls += [
        f"{base}/neurons?{query}&limit=4&q={q}"
        for q in ("", "max%3E0.5", "layer:0+sort:mean", "dead:yes", "source:plain", "what")
    ]
    return urls


def test_both_databases_give_the_same_json(
    sqlite_client: TestClient, postgres_client: TestClient
) -> None:
    """SQLite and PostgreSQL answer every JSON route with the same text and the same tag."""
    for address in addresses():
        on_sqlite, on_postgres = sqlite_client.get(address), postgres_client.get(address)
        assert (on_sqlite.status_code, on_sqlite.text) == (
            on_postgres.status_code,
            on_postgres.text,
        ), address
        assert on_sqlite.headers.get("etag") == on_postgres.headers.get("etag"), address


@pytest.mark.parametrize("page", ["/", "/toy", "/toy/1", "/toy/1/1", "/runs/3", "/toy/0?run=4"])
def test_both_databases_give_the_same_pages(
    sqlite_client: TestClient, postgres_client: TestClient, page: str
) -> None:
    """SQLite and PostgreSQL give the same HTML."""
    on_sqlite, on_postgres = sqlite_client.get(page), postgres_client.get(page)
    assert on_sqlite.status_code == on_postgres.status_code == 200
    assert on_sqlite.text == on_postgres.text


def test_the_content_hash_does_not_depend_on_the_database(
    sqlite_client: TestClient, postgres_client: TestClient
) -> None:
    """Every run has the same content hash in both databases."""
    for number in range(1, len(RUNS) + 1):
        address = f"/api/v1/runs/{number}"
        on_sqlite, on_postgres = (
            sqlite_client.get(address).json(),
            postgres_client.get(address).json(),
        )
        assert len(on_sqlite["content_hash"]) == 64
        assert on_sqlite["content_hash"] == on_postgres["content_hash"]


def test_a_run_that_is_not_ready_is_nowhere(any_url: str) -> None:
    """Until a run is ready, it is in no list, has no page and is never the default."""
    engine = open_store(any_url, create=True)
    fixture_store.write_all(engine)
    runs = schema.runs
    hidden = runs.c.id.in_([fixture_store.TOY, fixture_store.ZEBRA])
    with engine.begin() as connection:
        connection.execute(update(runs).where(hidden).values(ready=False, checksum=0))
    engine.dispose()
    with serving(any_url) as client:
        assert client.get("/healthz").json()["runs"] == len(RUNS) - 2
        models = client.get("/api/v1/models").json()["items"]
        assert [item["model"] for item in models] == ["pre-only", "toy", "wide"]
        toy = client.get("/api/v1/models/toy").json()
        assert toy["run"]["id"] == fixture_store.FIRST_TOY
        assert [run["id"] for run in toy["other_runs"]] == [fixture_store.TOY_PRE]
        for path in (
            f"/api/v1/runs/{fixture_store.TOY}",
            f"/api/v1/models/toy?run={fixture_store.TOY}",
            f"/api/v1/models/toy/layers/0/neurons?run={fixture_store.TOY}",
            f"/api/v1/models/toy/layers/0/neurons/0?run={fixture_store.TOY}",
            "/api/v1/models/Zebra_2.0",
            "/api/v1/models/Zebra_2.0/layers/0/neurons/0",
            f"/runs/{fixture_store.TOY}",
            f"/toy/0/0?run={fixture_store.TOY}",
            f"/toy/random?run={fixture_store.TOY}",
            "/Zebra_2.0",
            "/Zebra_2.0/random",
            "/Zebra_2.0/0/random",
        ):
            assert client.get(path).status_code == 404, path
        assert "Zebra" not in client.get("/").text
        assert f"run={fixture_store.TOY}" not in client.get("/toy").text


def test_a_server_that_stops_gives_its_connections_back(new_postgres: NewDatabase) -> None:
    """After the server ends, its connections are closed: the database can be dropped."""
    url = make_url(new_postgres())
    with serving(url.render_as_string(hide_password=False)) as client:
        assert client.get("/healthz").status_code == 200
    admin = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {url.database}"))
        names = connection.scalars(text("SELECT datname FROM pg_database")).all()
    admin.dispose()
    assert url.database not in names
