"""Opens a store and guards it: engine, tables, schema version, transactions, locks, COPY."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    event,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from indexer.errors import NeurariumError
from indexer.store.failures import unusable
from indexer.store.files import FileMoved, StoreFile, file_of, file_of_engine, unchanged
from indexer.store.limits import limit
from indexer.store.schema import OLDEST_VERSION, SCHEMA_VERSION, metadata, store

_BUSY_SECONDS = 600  # another indexer may be writing its run
_SERVED_SECONDS = 5  # a visitor waits for a lock, or for a free connection
_WRITES = "neurarium_writes"
_CHANGING = 7_310_588_202_411_233  # key of our PostgreSQL advisory lock; arbitrary


def open_store(
    url: str,
    *,
    create: bool,
    patience: int = _BUSY_SECONDS,
    upgrading: bool = False,
) -> Engine:
    """An engine for a store; with `create`, it and its tables are made if missing.

    `patience`: seconds that a statement on SQLite waits for a lock. `upgrading`: a schema version
    that can be upgraded will do. Raises NeurariumError if the address is invalid, the database
    cannot be reached or has another schema version, or there is no store and `create` is False.
    """
    parsed = _parse(url)
    return _open(parsed, _options(parsed, patience), create=create, upgrading=upgrading)


def open_served(
    url: str, *, patience: int = _SERVED_SECONDS, connections: int | None = None
) -> Engine:
    """An engine for a server, whose visitors wait seconds: `patience` for a lock or a connection,
    and for PostgreSQL as long as `limits` says. `connections`: the most at the same time.

    A file that is missing is not made. An empty PostgreSQL database, which somebody made for it,
    gets the store's tables. Raises NeurariumError.
    """
    parsed = _parse(url)
    options = _options(parsed, patience) | {"pool_timeout": patience, "pool_pre_ping": False}
    if connections is not None:
        options |= {"pool_size": connections, "max_overflow": 0}
    return _open(parsed, options, served=True)


def is_read_only(engine: Engine) -> bool:
    """Whether nothing can be written: a file or folder without write permission, a read-only disk
    or address; a PostgreSQL standby, session or role that may only read."""
    if (file := file_of_engine(engine)) is not None:
        return file.read_only
    reads = text(
        "SELECT current_setting('transaction_read_only')::bool "
        "OR NOT has_table_privilege('runs', 'INSERT')"
    )
    with engine.connect() as connection:
        return bool(connection.scalar(reads))


def _open(
    parsed: URL,
    options: dict[str, Any],
    *,
    create: bool = False,
    upgrading: bool = False,
    served: bool = False,
) -> Engine:
    is_sqlite = parsed.get_backend_name() == "sqlite"
    if is_sqlite:
        _check_file(parsed, create)
    where = without_password(parsed)
    try:
        engine = create_engine(parsed, **options)
    except ModuleNotFoundError as error:
        raise NeurariumError(
            f"The database {where} needs the package {error.name}: pip install "
            "'neurarium[postgres]', or '.[postgres]' in a copy of its source."
        ) from None
    file = StoreFile(parsed, create=create) if is_sqlite else None
    try:
        if file is not None:
            event.listen(engine, "connect", _set_up_sqlite)
            event.listen(engine, "begin", _begin)
            file.attach(engine)
        elif served:
            limit(engine)
        _check_version(engine, where, create or (served and _is_empty(engine)), upgrading)
        if file is not None and not file.read_only:
            # Only now, since it changes the file: one that is refused stays as it is.
            engine.dispose()
            event.listen(engine, "connect", _keep_a_log)
    except (DBAPIError, FileMoved) as error:
        engine.dispose()
        if file is not None and file.read_only and file.pending():
            raise NeurariumError(
                f"{file.path} cannot be read here: changes to it are still in its log "
                f"{file.path.name}-wal. Open it once where both can be written, or copy both there."
            ) from None
        raise NeurariumError(unusable(error, where)) from None
    except NeurariumError:
        engine.dispose()
        raise
    return engine


def without_password(url: URL) -> str:
    """The database address without its password."""
    return url.render_as_string(hide_password=True)


@contextmanager
def changing(engine: Engine, *, alone: bool = False) -> Iterator[Connection]:
    """A transaction that writes runs. SQLite allows one writer at a time. On PostgreSQL several
    may write at once, but an `alone` transaction excludes all others."""
    with changing_apart(engine) as connection:
        if engine.dialect.name == "postgresql":
            lock = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
            connection.execute(text(f"SELECT {lock}(:number)"), {"number": _CHANGING})
        yield connection


@contextmanager
def changing_apart(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes something other than runs: on PostgreSQL it never waits.

    Raises FileMoved if the file was removed meanwhile, so that what was written is lost.
    """
    with engine.connect().execution_options(**{_WRITES: True}) as connection:
        with connection.begin():
            yield connection
        unchanged(connection.connection)


def being_written(engine: Engine) -> str:
    """What a process that wants to write waits for."""
    return f"{without_password(engine.url)}, which another process is writing to"


def check_writable(engine: Engine, *, alone: bool = False) -> None:
    """Try a change, `alone` as in `changing`, and roll it back. Raises NeurariumError if writing is
    not allowed."""
    try:
        with changing(engine, alone=alone) as connection:
            connection.execute(update(store).values(schema_version=SCHEMA_VERSION))
            connection.rollback()
    except DBAPIError as error:
        raise NeurariumError(unusable(error, without_password(engine.url))) from None


def copy_rows(
    connection: Connection,
    statement: str,
    rows: Iterable[Sequence[Any]],
    types: Sequence[str] | None = None,
) -> None:
    """Send rows to a PostgreSQL COPY statement; `types` are needed for its binary form.

    Raises SQLAlchemy's DBAPIError.
    """
    driver: Any = connection.dialect.dbapi
    cursor = connection.connection.cursor()
    try:
        with cursor.copy(statement) as copy:
            if types is not None:
                copy.set_types(types)
            for row in rows:
                copy.write_row(row)
    except driver.Error as error:
        raise DBAPIError(statement, None, error) from error
    finally:
        cursor.close()


@contextmanager
def writing(engine: Engine, key: str, lock_folder: Path) -> Iterator[None]:
    """Hold the lock on the run named by `key`. It is released when this process dies.

    Raises NeurariumError if another indexer holds it.
    """
    digest = hashlib.blake2b(f"{identity(engine.url)}\n{key}".encode(), digest_size=8)
    taken = NeurariumError(
        "Another indexer is writing a run of this model to this database: wait for it to finish, "
        "or give this run another --name."
    )
    if engine.dialect.name == "postgresql":
        number = int.from_bytes(digest.digest(), "little", signed=True)
        with engine.connect() as connection:
            question = text("SELECT pg_try_advisory_lock(:number)")
            if not connection.scalar(question, {"number": number}):
                raise taken
            connection.commit()
            try:
                yield
            finally:
                # A broken connection has already released the lock.
                with suppress(DBAPIError):
                    unlock = text("SELECT pg_advisory_unlock(:number)")
                    connection.execute(unlock, {"number": number})
        return
    lock_folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_folder / f"{digest.hexdigest()}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise taken from None
    try:
        yield
    finally:
        lock.release()


def identity(url: URL) -> str:
    """A canonical name of the database, whatever the form of its file's path."""
    path = file_of(url)
    return str(url if path is None else path.resolve())


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise NeurariumError(
            f"{url!r} is not a database address: use sqlite:///FILE or "
            "postgresql+psycopg://USER:PASSWORD@HOST/NAME."
        ) from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise NeurariumError(
            f"{without_password(parsed)}: only sqlite:/// and postgresql+psycopg:// are supported."
        )
    return parsed


def _options(url: URL, patience: int) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": patience}}
    connect = {"connect_timeout": 10, "cursor_factory": _binary_cursor()}
    return {"pool_pre_ping": True, "connect_args": connect}


def _binary_cursor() -> Any:
    """A cursor that receives results in binary: as text, packed columns take twice the bytes."""
    from psycopg import Cursor, pq

    class BinaryCursor(Cursor[Any]):
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            self.format = pq.Format.BINARY

    return BinaryCursor


def _check_file(url: URL, create: bool) -> None:
    path = file_of(url)
    if path is None or not path.name or path.name == ":memory:":
        raise NeurariumError("The store must be a file: use sqlite:///FILE.")
    if path.is_dir():
        raise NeurariumError(f"{path} is a folder: name a file for the database.")
    if path.exists():
        if not path.is_file():
            raise NeurariumError(f"{path} is not a regular file: name a file for the database.")
        return
    if not create:
        raise NeurariumError(
            f"There is no database at {path}: index a model first (`neurarium index demo`), "
            "or name another database."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NeurariumError(
            f"The folder {path.parent} cannot be created: {error.strerror}."
        ) from None


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # Python's driver begins no transaction for SELECT and CREATE; `_begin` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA page_size=4096")  # for a new file: larger pages waste more space
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _keep_a_log(connection: Any, _record: object) -> None:
    # Readers continue while a run is written.
    connection.execute("PRAGMA journal_mode=WAL").close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    # A writer waits for its turn here instead of failing in the middle.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _is_empty(engine: Engine) -> bool:
    """Whether a PostgreSQL database has no table at all."""
    return engine.dialect.name == "postgresql" and not inspect(engine).get_table_names()


def _check_version(engine: Engine, where: str, create: bool, upgrading: bool) -> None:
    if not _has_store(engine):
        if not create:
            raise NeurariumError(
                f"The database {where} has no Neurarium store: index a model first "
                "(`neurarium index demo`)."
            )
        _make_tables(engine, where)
    with engine.connect() as connection:
        version = connection.scalar(select(store.c.schema_version))
    version = version or 0
    if version == SCHEMA_VERSION or (upgrading and OLDEST_VERSION <= version < SCHEMA_VERSION):
        return
    age = "a newer" if version > SCHEMA_VERSION else "an older"
    if version > SCHEMA_VERSION:
        advice = "update Neurarium, or use another database with --database"
    elif version >= OLDEST_VERSION:
        advice = "copy it, then bring it up to date with `neurarium upgrade`"
    else:
        advice = (
            "it is too old to be upgraded, so index its models again into another database, named "
            "with --database"
        )
    raise NeurariumError(
        f"The database {where} was made by {age} version of Neurarium (schema {version}, this is "
        f"{SCHEMA_VERSION}): {advice}."
    )


def _has_store(engine: Engine) -> bool:
    """Whether the database has our table of that name, and not another program's."""
    inspected = inspect(engine)
    if not inspected.has_table(store.name):
        return False
    return any(column["name"] == "schema_version" for column in inspected.get_columns(store.name))


def _make_tables(engine: Engine, where: str) -> None:
    with changing(engine, alone=True) as connection:
        tables = inspect(connection).get_table_names()
        if store.name in tables and _has_store(engine):  # another process was faster
            return
        if tables and engine.dialect.name == "sqlite":
            raise NeurariumError(
                f"The database {where} belongs to another program (it has a table {tables[0]!r}): "
                "name another file with --database."
            )
        metadata.create_all(connection)
        connection.execute(insert(store).values(schema_version=SCHEMA_VERSION))
