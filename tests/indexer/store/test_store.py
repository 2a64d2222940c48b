"""Writing runs on SQLite and PostgreSQL, all or nothing, with clear errors."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, event, func, insert, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from indexer.errors import NeurariumError
from indexer.store import schema
from indexer.store.database import check_writable, identity, open_store, writing
from indexer.store.failures import unusable
from indexer.store.runs import delete_run, list_runs
from indexer.store.writing.bulk import insert_rows
from indexer.store.writing.records import ContextRecord, NeuronBlock
from indexer.store.writing.run import write_run
from tests.helpers import fixture_store
from tests.helpers.fixture_store import RunOf

RUN = fixture_store.RUNS[0]


def _records(run: RunOf) -> tuple[Any, list[NeuronBlock], list[ContextRecord]]:
    """What `write_run` takes, with one neuron a block."""
    return run.record(), list(run.blocks(1)), list(run.context_records())


@pytest.fixture
def engine(any_url: str) -> Iterator[Engine]:
    """An empty store of each kind."""
    engine = open_store(any_url, create=True)
    yield engine
    engine.dispose()


def _counts(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {
            table.name: connection.scalar(select(func.count()).select_from(table)) or 0
            for table in schema.metadata.sorted_tables
            if table is not schema.store
        }


EMPTY = {table.name: 0 for table in schema.metadata.sorted_tables if table is not schema.store}


def test_a_run_is_written_whole(engine: Engine) -> None:
    """Every record becomes a row, and the run is ready with its hash."""
    run, neurons, contexts = _records(RUN)
    number = write_run(engine, run, neurons, contexts)
    counts = _counts(engine)
    assert counts["neurons"] == len(neurons) == sum(run.widths)
    assert counts["contexts"] == len(contexts)
    assert counts["vocabulary"] == len(run.vocabulary)
    assert counts["layers"] == len(run.widths)
    assert counts["examples"] == counts["neuron_arrays"] == len(neurons)
    (stored,) = list_runs(engine)
    assert (stored.id, stored.model, stored.neurons) == (number, run.model, len(neurons))
    assert stored.model_id == run.model_id


def test_trying_whether_a_store_can_be_written_changes_nothing(engine: Engine) -> None:
    """`check_writable` changes nothing, and a run can be written afterwards."""
    check_writable(engine)
    assert _counts(engine) == EMPTY
    write_run(engine, *_records(RUN))


def test_a_run_that_fails_leaves_nothing(engine: Engine) -> None:
    """An error while writing rolls everything back, including the vocabulary."""
    run, neurons, contexts = _records(RUN)

    def failing() -> Iterator[NeuronBlock]:
        yield from neurons[:5]
        raise RuntimeError("the model broke")

    with pytest.raises(RuntimeError, match="the model broke"):
        write_run(engine, run, failing(), contexts)
    assert _counts(engine) == EMPTY


def test_deleting_a_run_leaves_the_others_alone(engine: Engine) -> None:
    """Only rows of the run are deleted; the vocabulary is deleted with its last run."""
    records = _records(RUN)
    first = write_run(engine, *records)
    alone = _counts(engine)
    second = write_run(engine, *records)
    assert delete_run(engine, first)
    assert _counts(engine) == alone
    assert [run.id for run in list_runs(engine)] == [second]
    assert not delete_run(engine, first)
    assert delete_run(engine, second)
    assert _counts(engine) == EMPTY
    assert write_run(engine, *records) > second, "ids of deleted runs are not reused"


def test_equal_content_has_an_equal_hash(any_url: str, tmp_path: Path) -> None:
    """The hash ignores ids, times and the kind of database; any other number changes it."""
    hashes = []
    run, neurons, contexts = _records(RUN)
    for url in (any_url, f"sqlite:///{tmp_path / 'other.db'}"):
        engine = open_store(url, create=True)
        write_run(engine, run, neurons, contexts)
        later = replace(run, created_at=run.created_at.replace(year=2031), provenance={"x": 1})
        write_run(engine, later, neurons, contexts)
        with engine.connect() as connection:
            hashes += connection.scalars(select(schema.runs.c.content_hash)).all()
        engine.dispose()
    assert len(set(hashes)) == 1
    changed = [
        replace(neurons[0], scalars={**neurons[0].scalars, "mean": np.array([0.125])}),
        *neurons[1:],
    ]
    engine = open_store(any_url, create=False)
    number = write_run(engine, run, changed, contexts)
    with engine.connect() as connection:
        other = connection.scalar(
            select(schema.runs.c.content_hash).where(schema.runs.c.id == number)
        )
    engine.dispose()
    assert other != hashes[0]


KILLED = """
import sys, time
from indexer.store.database import open_store
from indexer.store.writing.run import write_run
from tests.helpers import fixture_store
run = fixture_store.RUNS[0]
def blocks():
    for count, block in enumerate(run.blocks(1)):
        if count == 6:
            print("half", flush=True)
            time.sleep(600)
        yield block
write_run(open_store(sys.argv[1], create=True), run.record(), blocks(), run.context_records())
"""


def test_a_killed_indexer_leaves_nothing(any_url: str) -> None:
    """Killed while inserting, it leaves no rows, and the next indexer can write."""
    folder = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, any_url],
        stdout=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    engine = open_store(any_url, create=False)
    assert _counts(engine) == EMPTY
    write_run(engine, *_records(RUN))
    assert len(list_runs(engine)) == 1
    engine.dispose()


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(store_url: str) -> None:
    """SQLite running out of pages is one clear line, and leaves no rows."""
    engine = open_store(store_url, create=True)

    def small(connection: sqlite3.Connection, _record: object) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages}")

    event.listen(engine, "connect", small)
    engine.dispose()
    with pytest.raises(SQLAlchemyError) as caught:
        write_run(engine, *_records(RUN))
    assert unusable(caught.value, "here").startswith("The disk is full: nothing was written")
    assert _counts(engine) == EMPTY
    engine.dispose()


def test_only_one_indexer_writes_a_run(any_url: str, tmp_path: Path) -> None:
    """A second writer of the run is refused; other runs, or the same run later, are not."""
    first, second = open_store(any_url, create=True), open_store(any_url, create=True)
    with writing(first, "demo", tmp_path):
        with (
            pytest.raises(NeurariumError, match="Another indexer"),
            writing(second, "demo", tmp_path),
        ):
            pass
        with writing(second, "other", tmp_path):
            pass
    with writing(second, "demo", tmp_path):
        pass
    first.dispose()
    second.dispose()


def test_two_writers_may_bring_the_same_vocabulary(new_postgres: Any) -> None:
    """On PostgreSQL, two runs with a new vocabulary can be written at once."""
    engine = open_store(new_postgres(), create=True)
    run, neurons, contexts = _records(RUN)
    inside, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[NeuronBlock]:
        inside.set()
        assert go_on.wait(60)
        yield from neurons

    with ThreadPoolExecutor() as threads:
        first = threads.submit(write_run, engine, run, slowly(), contexts)
        assert inside.wait(60)
        second = threads.submit(write_run, engine, run, neurons, contexts)
        go_on.set()
        ids = {first.result(60), second.result(60)}
    counts = _counts(engine)
    engine.dispose()
    assert len(ids) == 2
    assert counts["vocabulary"] == len(run.vocabulary)
    assert counts["neurons"] == 2 * len(neurons)


def test_vocabularies_of_one_tokenizer_may_differ_in_size(engine: Engine) -> None:
    """A model with a larger embedding has its own vocabulary."""
    run, neurons, contexts = _records(RUN)
    write_run(engine, run, neurons, contexts)
    larger = replace(run, vocabulary=[*run.vocabulary, b"new"])
    write_run(engine, larger, neurons, contexts)
    assert _counts(engine)["vocabulary"] == 2 * len(run.vocabulary) + 1


def test_a_read_only_store_is_refused_at_once(store_url: str) -> None:
    """`check_writable` finds out before a scan."""
    engine = open_store(store_url, create=True)
    check_writable(engine)
    engine.dispose()

    def read_only(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA query_only=ON")

    event.listen(engine, "connect", read_only)
    with pytest.raises(NeurariumError, match="cannot be written here"):
        check_writable(engine)
    engine.dispose()


def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    """No byte of another program's database changes."""
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = foreign.read_bytes()
    with pytest.raises(NeurariumError, match="belongs to another program"):
        open_store(f"sqlite:///{foreign}", create=True)
    assert foreign.read_bytes() == before
    assert list(tmp_path.iterdir()) == [foreign]


def test_what_is_no_store_is_refused_by_name(tmp_path: Path) -> None:
    """A pipe, a device, a table of the same name, a file cut short: one line that says what."""
    pipe, device, foreign, short = (tmp_path / name for name in ("pipe", "zero", "foreign", "cut"))
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE store (x)")
    connection.close()
    open_store(f"sqlite:///{short}", create=True).dispose()
    os.truncate(short, 6_000)
    for path, words in (
        (pipe, "is not a regular file"),
        (device, "is not a regular file"),
        (foreign, "has no Neurarium store"),
        (short, "is damaged .*: restore it from a copy"),
    ):
        with pytest.raises(NeurariumError, match=words) as raised:
            open_store(f"sqlite:///{path}", create=False)
        assert "\n" not in str(raised.value)
    with pytest.raises(NeurariumError, match="belongs to another program"):
        open_store(f"sqlite:///{foreign}", create=True)


def test_a_newer_database_is_refused(any_url: str) -> None:
    """A store with a later schema is refused."""
    engine = open_store(any_url, create=True)
    with engine.begin() as connection:
        connection.execute(update(schema.store).values(schema_version=99))
    engine.dispose()
    with pytest.raises(NeurariumError, match=r"a newer version of Neurarium \(schema 99"):
        open_store(any_url, create=True)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "is not a database address"),
        ("mysql://root@localhost/x", "only sqlite:/// and postgresql"),
        ("sqlite://", "must be a file"),
        ("sqlite:////nowhere/at/all/x.db", "There is no database at"),
        ("postgresql://nobody:secret@127.0.0.1:1/x", "cannot be used"),
    ],
)
def test_a_bad_address_is_one_clear_line(url: str, words: str) -> None:
    """The message says what is wrong and what to do, without a password."""
    with pytest.raises(NeurariumError, match=words) as caught:
        open_store(url, create=False)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_address_with_options_names_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite URIs create only the file they name, with the same identity as its path."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a store" / "some.db"
    address = f"sqlite:///file:{path}?mode=rwc&uri=true"
    with pytest.raises(NeurariumError, match=f"There is no database at {path}"):
        open_store(address, create=False)
    assert list(tmp_path.iterdir()) == []
    open_store(address, create=True).dispose()
    assert list(tmp_path.iterdir()) == [path.parent]
    open_store(f"sqlite:///{path}", create=False).dispose()
    assert identity(make_url(address)) == identity(make_url(f"sqlite:///{path}")) == str(path)


def test_files_that_are_no_store_are_refused(tmp_path: Path) -> None:
    """A folder, another kind of file, another program's database: each has its own message."""
    with pytest.raises(NeurariumError, match="is a folder"):
        open_store(f"sqlite:///{tmp_path}", create=True)
    text = tmp_path / "text.db"
    text.write_text("no database at all, but long enough to be looked at as one\n" * 20)
    with pytest.raises(NeurariumError, match="is not an SQLite database"):
        open_store(f"sqlite:///{text}", create=True)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(NeurariumError, match="has no Neurarium store"):
        open_store(f"sqlite:///{foreign}", create=False)


def test_a_run_that_is_not_ready_is_not_listed(engine: Engine) -> None:
    """Runs that are not ready are not listed."""
    number = write_run(engine, *_records(RUN))
    with engine.begin() as connection:
        connection.execute(
            update(schema.runs).where(schema.runs.c.id == number).values(ready=False)
        )
    assert list_runs(engine) == []


def test_what_the_driver_refuses_is_the_stores_error(engine: Engine) -> None:
    """Errors of rows sent straight to the driver are SQLAlchemy errors, and leave no rows."""
    with pytest.raises(SQLAlchemyError), engine.begin() as connection:
        insert_rows(connection, schema.neuron_arrays, [(7, b"x"), (8, b"y"), (7, b"z")])
    assert _counts(engine) == EMPTY


def test_postgresql_keeps_packed_lists_as_they_are(new_postgres: Any) -> None:
    """They are already compressed, so PostgreSQL must not compress them again."""
    engine = open_store(new_postgres(), create=True)
    question = (
        "SELECT attstorage FROM pg_attribute "
        "WHERE attrelid = 'examples'::regclass AND attname = 'packed'"
    )
    with engine.connect() as connection:
        assert connection.scalar(text(question)) in ("e", b"e")
    engine.dispose()


def test_rows_cannot_outlive_their_run(engine: Engine) -> None:
    """The database refuses examples without a neuron."""
    with pytest.raises(SQLAlchemyError), engine.begin() as connection:
        connection.execute(insert(schema.examples).values(neuron_id=7, kind=0, packed=b""))
