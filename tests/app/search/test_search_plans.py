"""How searches are answered: every table that grows with a run is read by one of its indexes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event
from starlette.testclient import TestClient

from indexer.store import schema
from indexer.store.database import open_store
from tests.conftest import serving

SMALL = {schema.runs.name, schema.vocabularies.name, schema.store.name}
"""A row a run, or fewer."""
ASKED = {
    "a token": "/toy/search?token_id=2",
    "a token that is promoted": "/toy/search?token_id=2&as=promoted",
    "completions": "/api/v1/models/toy/tokens?prefix=a",
    "a word": "/toy/search?text=cat",
    "a phrase": "/toy/search?text=%22the+cat%22",
    "the beginning of a word": "/toy/search?text=ca*",
    "a context": "/toy/contexts/0",
    "a place in a context": "/toy/contexts/0?at=2",
    "one filter": "/toy/neurons?q=max>0.1",
    "one sort": "/toy/neurons?q=sort:-kurtosis",
    "a filter of words": "/toy/neurons?q=dead:no",
    "a layer": "/toy/0?sort=max",
    "two neurons": "/compare?a=toy/0/0&b=1/1",
    "a list": "/list?n=toy/0/0,1/1",
}


@contextmanager
def noted() -> Iterator[list[tuple[str, Any]]]:
    """Every SELECT that is sent to any database meanwhile."""
    sent: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.lstrip().startswith("SELECT"):
            sent.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def whole_reads(connection: Connection, statement: str, parameters: Any) -> list[str]:
    """The tables that a SELECT goes over from end to end."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plan = [str(row.detail) for row in rows]
        # Tables of words are asked as such: "SCAN words VIRTUAL TABLE INDEX 0:M1".
        scans = [line for line in plan if line.startswith("SCAN") and " VIRTUAL " not in line]
        return [line for line in scans if line.split()[1] not in SMALL]
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # the fixture's tables are tiny
    # So few texts are quicker gone over in the order of contexts; test_text_index.py has many.
    ordered = "off" if "context_words" in statement else "on"
    connection.exec_driver_sql(f"SET LOCAL enable_indexscan = {ordered}")
    (row,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return list(_walked(plan[0]["Plan"]))


def _walked(node: dict[str, Any], asked: bool = False) -> Iterator[str]:
    children = node.get("Plans", [])
    asked = asked or "Index Cond" in node or any("Index Cond" in child for child in children)
    relation = node.get("Relation Name")
    if relation is not None and relation.startswith("context_words"):
        found = any("words @@" in child.get("Index Cond", "") for child in children)
        asked = found or ("Index Cond" in node and "words @@" not in node.get("Filter", ""))
    if relation is not None and relation not in SMALL and not asked:
        yield f"{node['Node Type']} {relation}"
    for child in children:
        yield from _walked(child)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[tuple[TestClient, Engine]]:
    """A client over a store of each kind, and the store itself."""
    name = "sqlite_filled" if request.param == "sqlite" else "postgres_filled"
    url: str = request.getfixturevalue(name)
    engine = open_store(url, create=False)
    with serving(url, page_memory=0) as client:  # a page that is kept reads nothing
        yield client, engine
    engine.dispose()


@pytest.mark.parametrize("path", ASKED.values(), ids=ASKED)
def test_nothing_is_read_from_end_to_end(store: tuple[TestClient, Engine], path: str) -> None:
    """All that the answer sends, by the plan the database itself gives."""
    client, engine = store
    client.get("/toy/search?text=cat")  # a server's first search checks the whole table of texts
    with noted() as sent:
        assert client.get(path).status_code == 200
    sent = [one for one in sent if one[0].count("context_words") or "FROM" in one[0]]
    assert sent
    with engine.connect() as connection:
        for statement, parameters in sent:
            assert whole_reads(connection, statement, parameters) == [], statement


def test_a_whole_read_is_seen(store: tuple[TestClient, Engine]) -> None:
    """What the test above would say of a search without an index."""
    with store[1].connect() as connection:
        for table in ("neurons", "contexts"):
            some = "SELECT * FROM " + table
            assert table in " ".join(whole_reads(connection, some, ()))
        assert whole_reads(connection, "SELECT * FROM neurons WHERE id = 1", ()) == []
