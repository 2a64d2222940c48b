"""Where the bytes of a store go, table by table."""

from __future__ import annotations

from sqlalchemy import Engine, func, inspect, select, text

from indexer.store import schema

_WORDS = "context_words"
"""What the tables of a run's words begin with."""
SEARCHED = (schema.neuron_columns.name, schema.token_neurons.name, _WORDS)
"""What tables begin with that are there for searches alone; what else these need is `bytes_inside`
others."""


def tables_of(engine: Engine) -> list[str]:
    """All tables of a store, those of words too."""
    return [table.name for table in schema.metadata.sorted_tables] + [
        name for name in inspect(engine).get_table_names() if name.startswith(_WORDS)
    ]


def bytes_by_table(engine: Engine, neurons: int) -> dict[str, float]:
    """Bytes a neuron of each table with its indexes, and of the whole database."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            pages = text(
                "SELECT coalesce(m.tbl_name, s.name), sum(s.pgsize) FROM dbstat s "
                "LEFT JOIN sqlite_schema m ON m.name = s.name GROUP BY 1"
            )
            rows = [(name, size) for name, size in connection.execute(pages)]
            unused = (
                "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size"
            )
            rows.append(("free, for what is written next", connection.scalar(text(unused))))
        else:
            total = func.pg_total_relation_size
            rows = [(name, connection.scalar(select(total(name)))) for name in tables_of(engine)]
    sizes = {name: size / neurons for name, size in rows}
    return dict(sorted(sizes.items(), key=lambda one: -one[1])) | {"all": sum(sizes.values())}


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
