"""What all commands share: consoles to print to, the settings, and common options."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from app.settings import Settings, from_environment

_UNWRAPPED = 10_000  # columns: lines are not wrapped in a file or pipe
out = Console(width=None if sys.stdout.isatty() else _UNWRAPPED)
err = Console(stderr=True)

Database = Annotated[
    str | None,
    typer.Option(
        help="sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME. "
        "Default: $NEURARIUM_DATABASE_URL, or neurarium.db in your data folder."
    ),
]
Host = Annotated[
    str | None, typer.Option(help="Address to listen on. Default: $NEURARIUM_HOST, or 127.0.0.1.")
]
Port = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Port to listen on; 0 picks a free one. Default: $NEURARIUM_PORT, or 8000.",
    ),
]


def settings_of(database: str | None, host: str | None = None, port: int | None = None) -> Settings:
    """The environment's settings, overridden by the options given. Raises NeurariumError."""
    settings = from_environment()
    given = {"database_url": database, "host": host, "port": port}
    return settings.model_copy(
        update={field: value for field, value in given.items() if value is not None}
    )


def open_store_of(settings: Settings, *, create: bool, upgrading: bool = False) -> Any:
    """The store in the settings' database. Raises NeurariumError, as `open_store` does. If the
    database does not answer at once, it says so."""
    from indexer.reporter import waiting
    from indexer.store.database import open_store

    with waiting(say, "the database"):
        return open_store(settings.database_url, create=create, upgrading=upgrading)


def database_name(settings: Settings) -> str:
    """The database's address without its password."""
    from sqlalchemy.engine import make_url

    from indexer.store.database import without_password

    return without_password(make_url(settings.database_url))


def address_of(settings: Settings) -> str:
    """The server's URL."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{settings.port}"


def escaped(value: object) -> str:
    """A value as text that rich prints unchanged."""
    return escape(str(value))


def say(line: str) -> None:
    """Print a line on standard error, whatever is in it."""
    err.print(escaped(line), highlight=False, soft_wrap=True)


def wait_for_writing(engine: Any, *, alone: bool = False) -> None:
    """Wait until a store can be written to, and say so; `alone`: until nobody else writes to it.
    Raises NeurariumError."""
    from indexer.reporter import waiting
    from indexer.store.database import being_written, check_writable

    with waiting(say, being_written(engine)):
        check_writable(engine, alone=alone)
