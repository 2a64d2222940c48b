"""Real servers, each a process of its own: `neurarium serve`, and one that only hands out bytes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.staticfiles import StaticFiles

from indexer.errors import NeurariumError

_STARTS_IN = 60  # seconds
_ADDRESS = re.compile(r"http://\S+")


@contextmanager
def neurarium(database: str) -> Iterator[str]:
    """`neurarium serve` over a database; its address."""
    command = "from app.cli.main import main; main()"
    with _running([command, "serve", "--port", "0", "--database", database]) as address:
        yield address


@contextmanager
def plain(folder: Path) -> Iterator[str]:
    """The server that pages are compared with, over a folder of answers; its address."""
    with _running(["from benchmarks.pages.servers import serve; serve()", str(folder)]) as address:
        yield address


@contextmanager
def _running(arguments: list[str]) -> Iterator[str]:
    # -u: its first line is read while it runs.
    server = subprocess.Popen(
        [sys.executable, "-u", "-c", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None  # a pipe
        line = server.stdout.readline()
        found = _ADDRESS.search(line)
        if found is None:
            raise NeurariumError(f"The server did not start: {line.strip() or 'see above'}.")
        _wait(found[0])
        yield found[0]
    finally:
        server.terminate()
        server.wait()


def _wait(address: str) -> None:
    """Until a server answers."""
    until = time.monotonic() + _STARTS_IN
    while True:
        try:
            urllib.request.urlopen(f"{address}/healthz", timeout=5).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise NeurariumError(f"{address} does not answer.") from None
            time.sleep(0.1)


def plain_app(folder: Path) -> FastAPI:
    """Two ways of sending bytes that are there: a static file, a route that does nothing else."""
    app = FastAPI()
    answers = {path.name: path.read_bytes() for path in folder.iterdir()}

    @app.get("/route/{name}")
    def route(name: str) -> Response:
        return Response(answers[name], media_type="text/html")

    @app.get("/healthz")
    def healthz() -> Response:
        return Response()

    app.mount("/static", StaticFiles(directory=folder))
    return app


def serve() -> None:
    """Serve the folder that is named on the command line as `neurarium serve` would: uvicorn, one
    process, the same socket."""
    import uvicorn

    from app.cli.main import _listening
    from app.settings import Settings

    app = plain_app(Path(sys.argv[1]))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with _listening(Settings(host="127.0.0.1", port=0)) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}")
        server.run(sockets=[listening])
