"""Copies of SQLite stores that may be open in this process."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def copy_store(url: str, path: Path) -> str:
    """Copy a store by SQLite itself; the copy's address.

    A plain copy opens and closes the file, by which POSIX drops the locks of all of the process's
    connections to it. The next process that closes the store then takes itself for the last, and
    deletes the write-ahead log of servers that are still reading.
    """
    source = f"file:{url.removeprefix('sqlite:///')}?mode=ro"
    with closing(sqlite3.connect(source, uri=True)) as whole, closing(sqlite3.connect(path)) as own:
        whole.backup(own)
    return f"sqlite:///{path}"
