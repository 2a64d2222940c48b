"""Damaged databases: every damage is noticed, or changes no answer."""

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text
from starlette.testclient import TestClient

from app.reading.store import Store
from indexer.store import schema
from indexer.store.check import check_run
from indexer.store.database import open_store
from tests.conftest import NewDatabase, Silent, fill, serving

COPIES = 120
TABLES = [
    *("runs", "layers", "contexts", "neurons", "neuron_arrays", "neuron_columns"),
    *("token_neurons", "examples", "vocabulary", "vocabularies", "corpus_counts"),
]
PAGES = [
    *("/", "/toy", "/toy/0", "/toy/1?sort=max&order=asc", "/wide/0?sort=density", "/Zebra_2.0"),
    *(f"/api/v1/models/toy/layers/{layer}/neurons/{n}?run={run}"
      for run in (1, 3) for layer in (0, 1) for n in range(4)),
    "/api/v1/models/toy/layers/0/neurons?run=4&limit=1",
    *(f"/api/v1/models/wide/layers/0/neurons?limit=5&sort={sort}"
      for sort in ("neuron", *schema.SORTABLE)),
    *(f"/api/v1/models/toy/contexts/{n}" for n in range(5)),
    *(f"/api/v1/models/toy/search/token?token_id={n}" for n in range(5)),
    *("/toy/search?text=cat", "/toy/search?text=the", "/toy/neurons?q=sort:-max"),
    *("/wide/neurons?q=max>0", "/compare?a=toy/0/0&b=toy/1/1", "/list?n=toy/0/0,toy/1/2"),
    *(f"/api/v1/runs/{run}" for run in (1, 2, 3)),
]  # fmt: skip


def answers(url: str) -> dict[str, tuple[int, bytes]]:
    """The status and body of every page, from a server that has read nothing yet."""
    with serving(url) as client:
        return asked(client)


def asked(client: TestClient) -> dict[str, tuple[int, bytes]]:
    """The status and body of every page."""
    return {path: read(client, path) for path in PAGES}


def read(client: TestClient, path: str) -> tuple[int, bytes]:
    answer = client.get(path)
    return answer.status_code, answer.content


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An undamaged store, in one file."""
    path = tmp_path_factory.mktemp("whole") / "store.db"
    with fill(f"sqlite:///{path}"):
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.close()
        yield path


@pytest.fixture(scope="module")
def right(whole: Path) -> dict[str, tuple[int, bytes]]:
    """The answers of the undamaged store."""
    found = answers(f"sqlite:///{whole}")
    assert {status for status, _ in found.values()} <= {200, 404}
    return found


def changed(value: Any, rng: random.Random) -> Any:
    """Another value of the same type."""
    if isinstance(value, bytes):
        way = rng.choice(["flip", "cut", "longer", "empty"])
        if not value or way == "longer":
            return value + bytes([rng.randrange(256)])
        if way == "flip":
            at, bit = rng.randrange(len(value)), 1 << rng.randrange(8)
            return value[:at] + bytes([value[at] ^ bit]) + value[at + 1 :]
        return value[: rng.randrange(len(value))] if way == "cut" else b""
    if isinstance(value, str):
        if not value:
            return "x"
        at = rng.randrange(len(value))
        return value[:at] + ("0" if value[at] != "0" else "1") + value[at + 1 :]
    if isinstance(value, float):
        return rng.choice([value + 1, -value - 0.5, value * 1.0000001 + 1e-9])
    if value is None:
        return 0.5
    return rng.choice([value + 1, value - 1])


def damage(connection: Connection, rng: random.Random) -> str:
    """Damage one or two rows; says how."""
    connection.execute(
        text("PRAGMA foreign_keys=OFF")
    ) if connection.dialect.name == "sqlite" else 0
    table = schema.metadata.tables[rng.choice(TABLES)]
    keys = [column.name for column in table.primary_key]
    rows = connection.execute(text(f"SELECT * FROM {table.name} ORDER BY {', '.join(keys)}"))
    found = [dict(row._mapping) for row in rows]
    row, other = rng.choice(found), rng.choice(found)
    column = rng.choice([name for name in row if name not in keys])
    if table is schema.neurons and column in ("layer", "neuron"):
        column = "max"
    if table is schema.neurons and column == "run_id":
        column = "std"
    where = " AND ".join(f"{key} = :key_{key}" for key in keys)
    ways = ["change"] * 3 + ["swap", "delete", "key"]
    way = rng.choice(ways if table.name not in ("runs", "vocabularies") else ways[:4])

    def update(at: dict[str, Any], name: str, value: Any) -> None:
        parameters = {f"key_{key}": at[key] for key in keys} | {"value": value}
        statement = f"UPDATE {table.name} SET {name} = :value WHERE {where}"
        connection.execute(text(statement), parameters)

    if way == "change":
        update(row, column, changed(row[column], rng))
    elif way == "swap":
        places = {"run_id", "layer", "neuron", "identity"}  # unique, together or alone
        for name in set(row) - set(keys) - places:
            update(row, name, other[name])
            update(other, name, row[name])
    elif way == "delete":
        statement = f"DELETE FROM {table.name} WHERE {where}"
        connection.execute(text(statement), {f"key_{key}": row[key] for key in keys})
    else:
        update(row, keys[-1], row[keys[-1]] + 100_000 if keys[-1] != "name" else "nothing")
    return f"{way} {table.name} {[row[key] for key in keys]} {column}"


def unnoticed(
    right: dict[str, tuple[int, bytes]],
    client: TestClient,
    url: str,
    caplog: pytest.LogCaptureFixture,
) -> list[str]:
    """The pages of a store with a wrong answer that is no error. The client's server gets the
    store, and remembers nothing of an earlier one."""
    caplog.clear()
    app: Any = client.app
    store = Store(open_store(url, create=False))
    app.state.site = replace(app.state.site, store=store)
    with caplog.at_level(logging.ERROR, "neurarium"):
        found = asked(client)
    store.close()
    failed = [path for path, (status, _) in found.items() if status >= 500]
    lines = [record for record in caplog.records if record.name == "neurarium"]
    assert len(lines) == len(failed), "each error has one line in the log"
    for record in lines:
        assert "neurarium check" in record.getMessage() or "damaged" in record.getMessage()
    return [path for path, answer in found.items() if answer[0] < 500 and answer != right[path]]


def test_no_damage_is_shown_as_data(
    whole: Path,
    right: dict[str, tuple[int, bytes]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """120 damaged copies: every answer is the right one, or an error with a line in the log."""
    noticed = 0
    with serving(f"sqlite:///{whole}") as client:
        for seed in range(COPIES):
            path = tmp_path / f"{seed}.db"
            shutil.copy(whole, path)
            engine = create_engine(f"sqlite:///{path}")
            with engine.begin() as connection:
                how = damage(connection, random.Random(seed))
            engine.dispose()
            assert not unnoticed(right, client, f"sqlite:///{path}", caplog), (seed, how)
            noticed += bool(caplog.records)
            path.unlink()
    assert noticed > COPIES / 2


def test_no_damage_is_shown_as_data_in_postgresql(
    new_postgres: NewDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """The same in PostgreSQL, one damage after the other, each mended again."""
    with fill(new_postgres()) as url, serving(url) as client:
        expected = asked(client)
        engine = create_engine(url)
        for seed in range(8):
            with engine.begin() as connection:
                for table in reversed(schema.metadata.sorted_tables):
                    for constraint in list(table.foreign_key_constraints):
                        name = f"{table.name}_{next(iter(constraint.column_keys))}_fkey"
                        connection.execute(
                            text(f"ALTER TABLE {table.name} DROP CONSTRAINT IF EXISTS {name}")
                        )
                before = {
                    name: connection.execute(text(f"SELECT * FROM {name}")).all() for name in TABLES
                }
                how = damage(connection, random.Random(seed))
            assert not unnoticed(expected, client, url, caplog), (seed, how)
            with engine.begin() as connection:
                for name, rows in before.items():
                    connection.execute(text(f"DELETE FROM {name}"))
                    table = schema.metadata.tables[name]
                    if rows:
                        connection.execute(table.insert(), [dict(row._mapping) for row in rows])
        engine.dispose()


@pytest.mark.parametrize("seed", range(6))
def test_check_names_the_damage(whole: Path, tmp_path: Path, seed: int) -> None:
    """`neurarium check` finds nothing in a whole store, and the row of every damage."""
    path = tmp_path / "store.db"
    shutil.copy(whole, path)
    engine = open_store(f"sqlite:///{path}", create=False)
    assert not any(check_run(engine, run, Silent()).damaged for run in range(1, 7))
    plain = create_engine(f"sqlite:///{path}")
    with plain.begin() as connection:
        how = damage(connection, random.Random(1000 + seed))
    plain.dispose()
    reports = [check_run(engine, run, Silent()) for run in range(1, 7)]
    engine.dispose()
    named = [place for report in reports for place in report.places]
    assert any(report.damaged for report in reports), how
    assert any(how.split()[1] in place for place in named), (how, named)
