"""The file of an SQLite store: how a connection opens it, and whether it is still the same file.

By itself SQLite makes a file that is missing anew, and keeps reading and writing a file that was
deleted: what is written then is lost. So every connection names its mode, and every use of a
connection looks at the file first, which takes some microseconds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from sqlalchemy import Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError

State = tuple[int, ...]
"""What changes whenever a file does: device, inode, size, time of the last change; for a store
that is only read also the size of its write-ahead log."""


class FileMoved(SQLAlchemyError):
    """The file of a database was removed or replaced while it was open."""


def file_of(url: URL) -> Path | None:
    """The file of an SQLite database, also if the address is a URI with options; None otherwise."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    if url.database.startswith("file:"):
        return Path(unquote(urlsplit(url.database).path))
    return Path(url.database)


class StoreFile:
    """The file of one engine. Safe to share between threads."""

    def __init__(self, url: URL, *, create: bool) -> None:
        path = file_of(url)
        assert path is not None
        # A server may change its folder; the address stays.
        self.path = path.absolute()
        self._log = Path(f"{self.path}-wal")
        self._create = create
        self._options = {key: str(value) for key, value in url.query.items() if key != "uri"}
        if url.database is not None:
            self._options |= parse_qsl(urlsplit(url.database).query)
        self._asked = self._options.pop("mode", None), self._options.pop("immutable", None)
        self.read_only = self._is_read_only()
        self._first: State | None = None

    def attach(self, engine: Engine) -> None:
        """Open all connections of an engine by these rules."""
        event.listen(engine, "do_connect", self._connect)
        event.listen(engine, "connect", self._opened)
        event.listen(engine, "checkout", self._check)

    def state(self) -> State:
        """The file's present state. Raises FileMoved if it is not the file that was opened."""
        try:
            status = os.stat(self.path)
        except OSError:
            raise FileMoved(f"The database file {self.path} was removed.") from None
        now: State = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._first is None:
            self._first = now
        elif now[:2] != self._first[:2]:
            raise FileMoved(f"The database file {self.path} was replaced by another one.")
        return (*now, self.pending()) if self.read_only else now

    def _is_read_only(self) -> bool:
        if self._asked[0] == "ro" or self._asked[1] not in (None, "0"):
            return True
        if not self.path.exists():
            return False
        # SQLite writes its log next to the file.
        return not (os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK))

    def pending(self) -> int:
        """Bytes of the write-ahead log: changes that are not in the file yet."""
        try:
            return os.stat(self._log).st_size
        except OSError:
            return 0

    def _connect(self, dialect: Any, _record: object, _args: object, named: dict[str, Any]) -> Any:
        if self._first is not None:
            self.state()
        address = f"{self.path.as_uri()}?{urlencode(self._options | self._mode())}"
        return dialect.loaded_dbapi.connect(address, **named | {"uri": True})

    def _mode(self) -> dict[str, str]:
        if not self.read_only:
            return {"mode": "rwc" if self._create and self._first is None else "rw"}
        writable = os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)
        if self._asked[1] is None and (writable or self.pending()):
            return {"mode": "ro"}
        # Otherwise SQLite would make files beside the store that its owner could not write, or fail
        # if it cannot. A change of the file or its log is noticed by `state`.
        return {"mode": "ro", "immutable": "1"}

    def _opened(self, _connection: object, record: Any) -> None:
        record.info["file"], record.info["state"] = self, self.state()
        record.info["fresh"] = True

    def _check(self, _connection: object, record: Any, _proxy: object) -> None:
        fresh = record.info.pop("fresh", False)
        if unchanged(record) or fresh:
            return
        # Somebody wrote to it, perhaps not by SQLite's rules, such as with `cp`: what the
        # connection remembers of the file may be wrong.
        raise DisconnectionError("the file was changed")


def unchanged(record: Any) -> bool:
    """Whether the file is as it was when the connection, whose `info` this has, was opened.

    Raises FileMoved.
    """
    file: StoreFile | None = record.info.get("file")
    return file is None or bool(file.state() == record.info["state"])


def file_of_engine(engine: Engine) -> StoreFile | None:
    """What `attach` gave the engine; None on PostgreSQL."""
    if engine.dialect.name != "sqlite":
        return None
    with engine.connect() as connection:
        file: StoreFile = connection.connection.info["file"]
    return file
