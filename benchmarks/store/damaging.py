"""Damages copies of a store, row by row, and asks a server for pages of each: does it notice?

    python -m benchmarks.store.damaging

Every answer has to be the right one, or an error with a line in the log. The store has the runs
that the tests wrote by hand, and small runs of the demo's neurons, latents and attention heads. The
tests do the same with fewer copies and pages.
"""

from __future__ import annotations

import logging
import random
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Connection, Engine, create_engine, func, inspect, select, text
from starlette.testclient import TestClient

from app.main import create_app
from app.reading.store import Store
from app.sets import name_of
from app.settings import Settings
from app.web import api_urls, urls
from benchmarks.results import Figure, Save, run
from benchmarks.tables import report
from indexer.errors import NeurariumError
from indexer.store import schema
from indexer.store.database import open_store
from tests.conftest import Silent
from tests.helpers import fixture_store

TABLES = [
    *("runs", "layers", "contexts", "neurons", "neuron_arrays", "neuron_columns"),
    *("token_neurons", "examples", "vocabulary", "vocabularies", "corpus_counts"),
]
HEAD_TABLES = ["heads", "head_patterns"]
UNIT_TABLES = ["neurons", "neuron_arrays", "examples", *HEAD_TABLES]
TEXT_TABLES = [f"context_words_{{run}}_{part}" for part in ("data", "idx")]
"""In which SQLite keeps the words of a run's texts."""
DEMO = "demo"
UNITS = 8
CONTEXTS = 5
DEMO_TOKENS = range(5, 25)
"""Tokens of the demo that are searched."""
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
    keys = inspect(connection).get_pk_constraint(name)["constrained_columns"]
    rows = connection.execute(text(f"SELECT * FROM {name} ORDER BY {', '.join(keys)}"))
    found = [dict(row._mapping) for row in rows]
    if "run_id" in found[0]:
        of = rng.choice(sorted({row["run_id"] for row in found}))
        found = [row for row in found if row["run_id"] == of]
    found = [row for row in found if is_asked(name, row, keys)]
    row, other = rng.choice(found), rng.choice(found)
    column = rng.choice([name for name in row if name not in keys])
    if name == "neurons" and column in ("layer", "neuron"):
        column = "max"
    if name == "neurons" and column == "run_id":
        column = "std"
    where = " AND ".join(f"{key} = :key_{key}" for key in keys)

    def update(at: dict[str, Any], column: str, value: Any) -> None:
        parameters = {f"key_{key}": at[key] for key in keys} | {"value": value}
        statement = f"UPDATE {name} SET {column} = :value WHERE {where}"
        connection.execute(text(statement), parameters)

    if way == "change":
        update(row, column, changed(row[column], rng))
    elif way == "swap":
        places = {"run_id", "layer", "neuron", "identity"}  # unique, together or alone
        for moved in sorted(set(row) - set(keys) - places):
            update(row, moved, other[moved])
            update(other, moved, row[moved])
    elif way == "delete":
        statement = f"DELETE FROM {name} WHERE {where}"
        connection.execute(text(statement), {f"key_{key}": row[key] for key in keys})
    else:
        update(row, keys[-1], elsewhere(row[keys[-1]]))
    return f"{way} {name} {[row[key] for key in keys]} {column}"


def is_asked(table: str, row: dict[str, Any], keys: list[str]) -> bool:
    """Whether a page may show a row, of a store that has the demo's runs too: it is of the first
    units, tokens or contexts."""
    if table in UNIT_TABLES and row[keys[0]] % (1 << 32) >= UNITS:
        return False
    if table == "head_patterns":
        return bool(row["context_id"] < CONTEXTS)
    return table != "token_neurons" or row["token_id"] < DEMO_TOKENS.stop


def elsewhere(key: Any) -> Any:
    """A key that no row has."""
    if isinstance(key, bytes):
        return key + b"zzz"
    return "nothing" if isinstance(key, str) else key + 100_000


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


def made(path: Path) -> None:
    """Write the store that is damaged: the runs that are written by hand, and small runs of the
    bundled model's neurons, latents and attention heads."""
    from indexer.config import IndexConfig
    from indexer.demo import DICTIONARIES, bundled_name
    from indexer.run.index import index  # takes seconds

    url = f"sqlite:///{path}"
    engine = open_store(url, create=True)
    fixture_store.write_all(engine)
    engine.dispose()
    small = IndexConfig(model=DEMO, max_tokens=4_000, sample=16, top_k=3)
    latents = replace(small, dictionary=bundled_name(DICTIONARIES[0]), force=True)
    for config in (small, latents, replace(small, heads=True)):
        index(config, url, path.parent / "cache", Silent())


def pages_of_demo(connection: Connection) -> list[str]:
    """Addresses of what is stored of the demo's first units, contexts and tokens, in all its
    sets."""
    runs = schema.runs
    sets = select(runs.c.id, runs.c.set_name).where(runs.c.model == DEMO)
    pages = []
    for number, set_name in connection.execute(sets):
        name = name_of(DEMO, set_name)
        pages += [urls.model(name), api_urls.model(name), urls.layer(name, 0), api_urls.run(number)]
        pages += [api_urls.neuron(name, 0, unit) for unit in range(UNITS)]
        pages += [urls.neuron(name, 0, 0), api_urls.neurons(name, 0, limit=UNITS)]
        pages += [api_urls.context_neurons(name, context) for context in range(CONTEXTS)]
        pages += [api_urls.token_neurons(name, token_id=token) for token in DEMO_TOKENS]
        pages += [urls.search(name, text="the"), api_urls.search_numbers(name, q="max>0", limit=5)]
    pages += [api_urls.heads(DEMO), urls.heads(DEMO)]
    for layer, head in product(range(2), range(5)):
        pages.append(api_urls.head(DEMO, layer, head))
        pages += [api_urls.head_context(DEMO, layer, head, context) for context in range(CONTEXTS)]
    return pages


def main(
    copies: Annotated[int, typer.Option(min=1, help="How many.")] = 120,
    seed: Annotated[int, typer.Option(help="Of the first.")] = 0,
    store: Annotated[
        Path | None, typer.Option(help="The file of a store that `made` wrote. Default: a new one.")
    ] = None,
    save: Save = None,
) -> None:
    """Damage copies of a store, and count the copies with a wrong answer."""
    logging.getLogger("neurarium").propagate = False
    with tempfile.TemporaryDirectory() as name:
        whole = store or Path(name) / "whole.db"
        if not whole.exists():
            made(whole)
        engine = open_store(f"sqlite:///{whole}", create=False)
        with engine.connect() as connection:
            pages = PAGES + pages_of_demo(connection)
            count = connection.scalar(select(func.count()).select_from(schema.runs))
        engine.dispose()
        # A page that is kept would hide that its rows were damaged since.
        app = create_app(Settings(database_url=f"sqlite:///{whole}", page_memory=0))
        with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
            right = asked(client, pages)
            if failed := [path for path, (status, _) in right.items() if status not in (200, 404)]:
                raise NeurariumError(f"{failed[0]} is not answered by the whole store.")
            noticed = wrong = 0
            kinds = [*TABLES, *HEAD_TABLES, *TEXT_TABLES]
            for number in range(seed, seed + copies):
                rng = random.Random(number)
                path = Path(name) / f"{number}.db"
                shutil.copy(whole, path)
                engine = create_engine(f"sqlite:///{path}")
                kind = rng.choice(kinds)
                table = kind.format(run=rng.randrange(count or 1) + 1)
                with engine.begin() as connection:
                    how = damage(connection, rng, table, rng.choice(ways_of(table)))
                engine.dispose()
                paths, failed_any = unnoticed(right, client, f"sqlite:///{path}")
                path.unlink()
                noticed, wrong = noticed + failed_any, wrong + bool(paths)
                if paths:
                    typer.echo(f"seed {number}: {how}: {', '.join(paths)}")
    figures = [
        Figure("answers of each copy", "SQLite", len(pages)),
        Figure("damaged copies", "SQLite", copies),
        Figure("noticed", "SQLite", noticed),
        Figure("no answer affected", "SQLite", copies - noticed - wrong),
        Figure("a wrong answer", "SQLite", wrong),
    ]
    report("store.damaging", {"copies": copies, "seed": seed}, figures, save)


if __name__ == "__main__":
    run(main)
