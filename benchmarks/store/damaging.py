"""Damages copies of a store, row by row, and asks a server for pages of each: does it notice?

    python -m benchmarks.store.damaging

Every answer has to be the right one, or an error with a line in the log. The tests do the same with
fewer copies and pages.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, text
from starlette.testclient import TestClient

from app.main import create_app
from app.reading.store import Store
from app.settings import Settings
from indexer.store import schema
from indexer.store.database import open_store
from tests.helpers import fixture_store

TABLES = [
    *("runs", "layers", "contexts", "neurons", "neuron_arrays", "neuron_columns"),
    *("token_neurons", "examples", "vocabulary", "vocabularies", "corpus_counts"),
]
WAYS = ("change", "swap", "delete", "key")
"""To damage a row: another value, values of another row, no row, another key."""
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
Answers = dict[str, tuple[int, bytes]]
"""The status and body of pages."""


def asked(client: TestClient, pages: Iterable[str]) -> Answers:
    """A server's answers."""
    answers = {}
    for path in pages:
        answer = client.get(path)
        answers[path] = (answer.status_code, answer.content)
    return answers


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


def damage(connection: Connection, rng: random.Random, name: str, way: str) -> str:
    """Damage one or two rows of a table in one of the `WAYS`; says how."""
    if connection.dialect.name == "sqlite":
        connection.execute(text("PRAGMA foreign_keys=OFF"))
    table = schema.metadata.tables[name]
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


def ways_of(table: str) -> tuple[str, ...]:
    """How rows of a table can be damaged so that the database still holds together."""
    return WAYS[:2] if table in ("runs", "vocabularies") else WAYS


def put(client: TestClient, engine: Engine) -> Store:
    """Let a server read another store, with nothing remembered of an earlier one."""
    app: Any = client.app
    store = Store(engine)
    app.state.site = replace(app.state.site, store=store)
    return store


class Lines(logging.Handler):
    """Counts lines of the log, and those that tell the operator what is damaged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = self.telling = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count a line."""
        self.count += 1
        line = record.getMessage()
        self.telling += "neurarium check" in line or "damaged" in line


def unnoticed(right: Answers, client: TestClient, url: str) -> tuple[list[str], bool]:
    """The pages of a store with a wrong answer that is no error, or with errors that the log does
    not tell; and whether any error was answered."""
    lines, log = Lines(), logging.getLogger("neurarium")
    log.addHandler(lines)
    store = put(client, open_store(url, create=False))
    try:
        found = asked(client, right)
    finally:
        store.close()
        log.removeHandler(lines)
    failed = [path for path, (status, _) in found.items() if status >= 500]
    if not len(failed) == lines.count == lines.telling:
        return failed, True
    wrong = [path for path, answer in found.items() if answer[0] < 500 and answer != right[path]]
    return wrong, bool(failed)


def main() -> None:
    """Damage copies of the hand-written store of the tests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=120, help="how many (default: 120)")
    parser.add_argument("--seed", type=int, default=0, help="of the first (default: 0)")
    given = parser.parse_args()
    logging.getLogger("neurarium").propagate = False
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole.db"
        engine = open_store(f"sqlite:///{whole}", create=True)
        fixture_store.write_all(engine)
        engine.dispose()
        # A page that is kept would hide that its rows were damaged since.
        app = create_app(Settings(database_url=f"sqlite:///{whole}", page_memory=0))
        with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
            right = asked(client, PAGES)
            noticed = wrong = 0
            for seed in range(given.seed, given.seed + given.copies):
                rng = random.Random(seed)
                path = Path(name) / f"{seed}.db"
                shutil.copy(whole, path)
                engine = create_engine(f"sqlite:///{path}")
                table = rng.choice(TABLES)
                with engine.begin() as connection:
                    how = damage(connection, rng, table, rng.choice(ways_of(table)))
                engine.dispose()
                pages, failed = unnoticed(right, client, f"sqlite:///{path}")
                path.unlink()
                noticed, wrong = noticed + failed, wrong + bool(pages)
                if pages:
                    print(f"seed {seed}: {how}: {', '.join(pages)}")
    print(f"{given.copies} damaged copies: {noticed} noticed, {wrong} with a wrong answer.")


if __name__ == "__main__":
    main()
