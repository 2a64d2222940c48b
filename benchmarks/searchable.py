"""What a run's searches cost while it is written, and the tables they read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from sqlalchemy import Engine, func, inspect, select, text

from indexer.store import schema, text_index, writer
from indexer.store.postings import Postings

WORDS = "context_words"
"""What the tables of a run's words begin with."""
TABLES = (schema.neuron_columns.name, schema.token_neurons.name, WORDS)
"""Those that are there for searches alone; what else they need is `bytes_inside` others."""
_WORK: tuple[tuple[Any, str], ...] = (
    *((Postings, name) for name in ("add_neurons", "contexts")),
    *((writer, name) for name in ("write_columns", "write_tokens")),
    *((text_index, name) for name in ("create", "add", "finish")),
)


class Spent:
    """Seconds: by the clock, and of the thread that writes."""

    wall = 0.0
    processor = 0.0


@contextmanager
def spent_on_searches() -> Iterator[Spent]:
    """How long the writer works for searches meanwhile."""
    spent = Spent()

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **named: Any) -> Any:
            began, used = time.perf_counter(), time.thread_time()
            try:
                return work(*args, **named)
            finally:
                spent.wall += time.perf_counter() - began
                spent.processor += time.thread_time() - used

        return run

    with ExitStack() as stack:
        for owner, name in _WORK:
            stack.enter_context(patch.object(owner, name, timed(getattr(owner, name))))
        yield spent


def tables_of(engine: Engine) -> list[str]:
    """All tables of a store, those of words too."""
    return [table.name for table in schema.ALL_TABLES] + [
        name for name in inspect(engine).get_table_names() if name.startswith(WORDS)
    ]


def bytes_inside(engine: Engine, neurons: int) -> dict[str, float]:
    """Bytes a neuron that searches and sorted lists need in tables that are not theirs alone."""
    indexes = [f"ix_neurons_{name}" for name in schema.SORTABLE]
    with engine.connect() as connection:
        named = connection.scalar(select(func.sum(func.length(schema.contexts.c.neurons)))) or 0
        if engine.dialect.name == "sqlite":
            pages = text("SELECT name, sum(pgsize) FROM dbstat GROUP BY 1")
            sizes = {row[0]: row[1] for row in connection.execute(pages)}
        else:
            size = func.pg_relation_size
            sizes = {name: connection.scalar(select(size(name))) for name in indexes}
    found = {"contexts.neurons": named, "neurons, indexes": sum(sizes[name] for name in indexes)}
    return {name: size / neurons for name, size in found.items()}
