"""The tags of pages follow the store at once: what is seen of a run is seen by the next request."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text, update
from starlette.testclient import TestClient

from app.reading.versions import RunVersions
from indexer.store import schema
from indexer.store.database import changing, open_store
from indexer.store.runs import delete_run
from tests.conftest import serving
from tests.helpers.fixture_store import CONSTANT, DEAD, TIED, RunOf

TOY = RunOf("toy", ((CONSTANT, DEAD), (TIED,)))
OTHER = RunOf("other", ((TIED,),))
PATH = "/api/v1/models/toy/layers/0/neurons/0"


@pytest.fixture
def engine(any_url: str) -> Iterator[Engine]:
    """A store with one run of `toy`: a connection as another process would have it."""
    engine = open_store(any_url, create=True)
    TOY.write(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def client(engine: Engine, any_url: str) -> Iterator[TestClient]:
    """A client of a server over that store."""
    with serving(any_url) as client:
        yield client


def set_ready(engine: Engine, run_id: int, ready: bool) -> None:
    runs = schema.runs
    with changing(engine) as connection:
        connection.execute(update(runs).where(runs.c.id == run_id).values(ready=ready))


def status(client: TestClient, tag: str, path: str = PATH) -> int:
    """What a visitor with a tag is answered."""
    return client.get(path, headers={"If-None-Match": tag}).status_code


def test_a_new_run_is_seen_by_the_next_request(engine: Engine, client: TestClient) -> None:
    """A tag is good until a run of its model becomes ready; other models do not matter."""
    tag = client.get(PATH).headers["etag"]
    assert status(client, tag) == 304
    OTHER.write(engine)
    assert status(client, tag) == 304
    TOY.write(engine)
    answer = client.get(PATH, headers={"If-None-Match": tag})
    assert answer.status_code == 200
    assert answer.json()["run"]["id"] == 3
    assert status(client, answer.headers["etag"]) == 304


def test_a_deleted_run_is_gone_at_the_next_request(engine: Engine, client: TestClient) -> None:
    """Neither a page nor a 304 is given of a run that has been deleted."""
    tag = client.get(PATH).headers["etag"]
    second = TOY.write(engine)
    newer = client.get(PATH).headers["etag"]
    assert delete_run(engine, second)
    assert status(client, newer) == 200
    assert client.get(PATH).headers["etag"] == tag
    assert delete_run(engine, 1)
    assert status(client, tag) == 404


def test_a_run_counts_from_when_it_is_ready(engine: Engine, client: TestClient) -> None:
    """A run that is not ready changes no tag; made ready, or hidden again, it does at once."""
    tag = client.get(PATH).headers["etag"]
    run_id = TOY.write(engine)
    set_ready(engine, run_id, False)
    assert status(client, tag) == 304
    for ready, expected in ((True, 200), (False, 304), (True, 200)):
        set_ready(engine, run_id, ready)
        assert status(client, tag) == expected


def test_what_is_not_committed_is_not_seen(engine: Engine) -> None:
    """While a transaction changes a run, readers see it as it was, and do not wait."""
    versions = RunVersions(engine)
    before = versions.of("toy")
    with changing(engine) as connection:
        connection.execute(update(schema.runs).values(content_hash="changed"))
        assert versions.of("toy") == before
        connection.rollback()
    assert versions.of("toy") == before
    versions.close()


def test_versions_are_those_of_the_model(engine: Engine) -> None:
    """A model's versions are its runs' ids and content hashes, oldest first; of none: no runs."""
    versions = RunVersions(engine)
    OTHER.write(engine)
    TOY.write(engine)
    first, second = versions.of("toy")
    assert (first.split(":")[0], second.split(":")[0]) == ("1", "3")
    assert first.split(":")[1] == second.split(":")[1]  # the same content
    assert versions.of(None) == [first, *versions.of("other"), second]
    for name in ("nobody", "", "to", "toy\0", "TOY", "\ud800"):
        assert versions.of(name) == []
    versions.close()
    assert versions.of("toy") == [first, second]  # closing gives back, it does not break
    versions.close()


def test_many_threads_may_ask(engine: Engine) -> None:
    """Threads that ask at once all get the answer."""
    versions = RunVersions(engine)
    expected = versions.of("toy")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: versions.of("toy"), range(200)))
    assert found == [expected] * 200
    versions.close()


def test_a_database_that_failed_and_came_back(engine: Engine, client: TestClient) -> None:
    """Where the table cannot be read the answer is 503; when it can be again, all is well."""
    tag = client.get(PATH).headers["etag"]
    with changing(engine) as connection:
        connection.execute(text("ALTER TABLE runs RENAME TO away"))
    assert status(client, tag) == 503
    with changing(engine) as connection:
        connection.execute(text("ALTER TABLE away RENAME TO runs"))
    assert status(client, tag) == 304


def test_a_page_with_the_server_s_address_has_a_tag_for_each(client: TestClient) -> None:
    """A neuron's page quotes its own address, so a proxy's other name makes another page; pages
    and JSON without it are the same under every name."""
    for path, equal in (("/toy/0/0", False), ("/toy/0", True), (PATH, True)):
        here, there = (client.get(path, headers={"Host": host}) for host in ("a.test", "b.test:81"))
        assert (here.text == there.text) == equal
        assert (here.headers["etag"] == there.headers["etag"]) == equal
        again = client.get(
            path, headers={"Host": "b.test:81", "If-None-Match": here.headers["etag"]}
        )
        assert again.status_code == (304 if equal else 200)
