"""What the commands share: where they print, which settings hold, how options are written."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from app.settings import Settings
from indexer.errors import NeurariumError

_UNWRAPPED = 10_000  # columns: what goes to a file or a pipe is not broken into lines
out = Console(width=None if sys.stdout.isatty() else _UNWRAPPED)
err = Console(stderr=True)

Database = Annotated[
    str | None,
    typer.Option(
        help="sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME. "
        "Default: $NEURARIUM_DATABASE_URL, or a file in your data folder."
    ),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port. Default: 8000.")]


def settings_of(database: str | None, host: str | None = None, port: int | None = None) -> Settings:
    """The environment's settings, and what was given beside them. Raises NeurariumError."""
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"NEURARIUM_{first['loc'][0]}".upper()
        said = first["msg"].partition(",")[0]  # what follows is about parsers
        raise NeurariumError(
            f"{name} is {first['input']!r}: {said[:1].lower()}{said[1:]}."
        ) from None
    given = {"database_url": database, "host": host, "port": port}
    return settings.model_copy(
        update={field: value for field, value in given.items() if value is not None}
    )


def open_store_of(settings: Settings, *, create: bool) -> Any:
    """The store that the settings name."""
    from indexer.store.database import open_store

    return open_store(settings.database_url, create=create)


def missing_file(settings: Settings) -> str | None:
    """The file that the settings name, where there is none."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    from indexer.store.database import file_of

    try:
        path = file_of(make_url(settings.database_url))
    except ArgumentError:  # said where it is opened
        return None
    return None if path is None or path.exists() else str(path)


def shown_of(settings: Settings) -> str:
    """The database's address without its password."""
    from sqlalchemy.engine import make_url

    from indexer.store.database import shown

    return shown(make_url(settings.database_url))


def address_of(settings: Settings) -> str:
    """Where the server is found."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{settings.port}"


def escaped(value: object) -> str:
    """A value as text that rich prints as it is."""
    return escape(str(value))
