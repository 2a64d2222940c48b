"""Damaged databases: every damage is noticed, or changes no answer. `benchmarks.store.damaging`
does the same with more copies and pages."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from benchmarks.store.damaging import (
    PAGES,
    TABLES,
    WAYS,
    Answers,
    asked,
    damage,
    pages_of_demo,
    unnoticed,
    ways_of,
)
from indexer.store import schema
from indexer.store.check import check_run
from indexer.store.database import open_store
from tests.conftest import NewDatabase, Silent, fill, serving
from tests.helpers.store_copies import copy_store

CASES = [("change", name) for name in TABLES] + [
    (WAYS[1 + number % 3], name) for number, name in enumerate(TABLES) if len(ways_of(name)) > 2
]
"""Every table with a changed value, and with a swapped, deleted or moved row."""
OF_TEXTS = [("change", "context_words_1_data"), ("delete", "context_words_1_idx")]
"""Parts of SQLite's index of a run's texts."""
OF_HEADS = [
    *(("change", "heads"), ("swap", "heads")),
    *(("change", "head_patterns"), ("delete", "head_patterns"), ("key", "head_patterns")),
]
SOME = [page for page in PAGES if "&sort=" not in page or page.endswith("sort=max")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An undamaged store, in one file."""
    path = tmp_path_factory.mktemp("whole") / "store.db"
    with fill(f"sqlite:///{path}"):
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.close()
        yield path


def answers(url: str) -> Answers:
    """The answers of a server that has read nothing yet."""
    with serving(url, page_memory=0) as client:
        return asked(client, SOME)


def damaged(path: Path, seed: int, way: str, name: str) -> str:
    """Damage a store; says how."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        how = damage(connection, random.Random(seed), name, way)
    engine.dispose()
    return how


def test_no_damage_is_shown_as_data(whole: Path, tmp_path: Path) -> None:
    """Every answer of a damaged copy is the right one, or an error with a line in the log."""
    noticed = 0
    with serving(f"sqlite:///{whole}", page_memory=0) as client:
        right = asked(client, SOME)
        assert {status for status, _ in right.values()} <= {200, 404}
        for seed, (way, name) in enumerate(CASES + OF_TEXTS):
            path = tmp_path / f"{seed}.db"
            copy_store(f"sqlite:///{whole}", path)
            how = damaged(path, seed, way, name)
            wrong, failed = unnoticed(right, client, f"sqlite:///{path}")
            assert not wrong, (seed, how)
            noticed += failed
            path.unlink()
    assert noticed > len(CASES) / 2


def test_no_damage_of_heads_is_shown_as_data(heads_store: tuple[str, Path], tmp_path: Path) -> None:
    """Of what is stored of attention heads beside what every unit has."""
    url = heads_store[0]
    whole = Path(url.removeprefix("sqlite:///"))
    noticed = 0
    with serving(url, page_memory=0) as client:
        engine = open_store(url, create=False)
        with engine.connect() as connection:
            pages = [page for page in pages_of_demo(connection) if "/heads" in page]
        engine.dispose()
        right = asked(client, [page for page in pages if "/0/" in page])
        assert {status for status, _ in right.values()} <= {200, 404}
        for seed, (way, name) in enumerate(OF_HEADS):
            path = tmp_path / f"{seed}.db"
            copy_store(f"sqlite:///{whole}", path)
            how = damaged(path, seed, way, name)
            wrong, failed = unnoticed(right, client, f"sqlite:///{path}")
            assert not wrong, (seed, how)
            noticed += failed
            path.unlink()
    assert noticed >= 3


def test_no_damage_is_shown_as_data_in_postgresql(new_postgres: NewDatabase) -> None:
    """The same in PostgreSQL, one damage after the other, each mended again."""
    with fill(new_postgres()) as url, serving(url, page_memory=0) as client:
        right = asked(client, SOME)
        engine = create_engine(url)
        with engine.begin() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                for constraint in list(table.foreign_key_constraints):
                    name = f"{table.name}_{next(iter(constraint.column_keys))}_fkey"
                    connection.execute(
                        text(f"ALTER TABLE {table.name} DROP CONSTRAINT IF EXISTS {name}")
                    )
        for seed, (way, name) in enumerate((WAYS[at % 4], TABLES[at + 2]) for at in range(4)):
            table = schema.metadata.tables[name]
            with engine.begin() as connection:
                before = connection.execute(table.select()).all()
                how = damage(connection, random.Random(seed), name, way)
            wrong, _ = unnoticed(right, client, url)
            assert not wrong, (seed, how)
            with engine.begin() as connection:
                connection.execute(table.delete())
                connection.execute(table.insert(), [dict(row._mapping) for row in before])
        engine.dispose()


def test_a_damaged_name_hides_no_run_and_breaks_no_other_model(whole: Path, tmp_path: Path) -> None:
    """The run's own model is an error, though it has other runs; the models beside it are not."""
    path = tmp_path / "renamed.db"
    copy_store(f"sqlite:///{whole}", path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE runs SET model = 'toz' WHERE id = 1")
    connection.close()
    with serving(f"sqlite:///{path}") as client:
        assert client.get("/toy").status_code == 500
        assert client.get("/Zebra_2.0").status_code == 200
        assert client.get("/").status_code == 500


def test_check_names_the_damage(whole: Path, tmp_path: Path) -> None:
    """`neurarium check` finds nothing in a whole store, and the row of every damage."""
    engine = open_store(f"sqlite:///{whole}", create=False)
    assert not any(check_run(engine, run, Silent()).damaged for run in range(1, 7))
    engine.dispose()
    for seed, (way, name) in enumerate(CASES[:: len(CASES) // 5], 1000):
        path = tmp_path / f"{seed}.db"
        copy_store(f"sqlite:///{whole}", path)
        how = damaged(path, seed, way, name)
        engine = open_store(f"sqlite:///{path}", create=False)
        reports = [check_run(engine, run, Silent()) for run in range(1, 7)]
        engine.dispose()
        named = [place for report in reports for place in report.places]
        assert any(report.damaged for report in reports), how
        assert any(name in place for place in named), (how, named)
