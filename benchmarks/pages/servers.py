"""Servers to measure, each in its own process: `neurarium serve`, and one that only sends bytes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Response

from indexer.errors import NeurariumError

_ADDRESS = re.compile(r"http://[\w.]+:\d+")


@dataclass(frozen=True)
class Running:
    """A server."""

    address: str
    process: int

    def memory(self) -> int:
        """Bytes that its process holds now (Linux)."""
        pages = int(Path(f"/proc/{self.process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def named(stores: Sequence[str]) -> dict[str, str]:
    """Databases or addresses of servers by name, from NAME=… each. Raises NeurariumError unless
    each has a name of its own."""
    by_name = dict(store.split("=", 1) for store in stores if "=" in store)
    if len(by_name) < len(stores):
        raise NeurariumError("Name each store once, as in demo=sqlite:////tmp/demo.db")
    return by_name


def served(stack: ExitStack, url: str, *options: str, keeps: bool = False) -> str:
    """The address of a server: of the server that `url` names, or of one started on a database."""
    if url.startswith("http://"):
        return url.rstrip("/")
    return stack.enter_context(neurarium(url, *options, keeps=keeps)).address


@contextmanager
def neurarium(
    database: str, *options: str, files: int | None = None, keeps: bool = False
) -> Iterator[Running]:
    """`neurarium serve` on a database. `files`: how many it may have open; `keeps`:
    whether it keeps built pages in memory. Raises NeurariumError if it fails to start."""
    limit = "" if files is None else f"resource.setrlimit(resource.RLIMIT_NOFILE, {(files, files)})"
    command = f"import resource; {limit}\nfrom app.cli.main import main; main()"
    arguments = [command, "serve", "--port", "0", "--database", database, *options]
    own = {} if keeps else {"NEURARIUM_PAGE_MEMORY": "0"}
    with running(arguments, {**os.environ, **own}) as server:
        yield server


@contextmanager
def plain(folder: Path) -> Iterator[str]:
    """A server of the files in a folder, at /NAME, that does nothing else; its address."""
    with running(["from benchmarks.pages.servers import serve; serve()", str(folder)]) as server:
        yield server.address


@contextmanager
def running(
    arguments: list[str], environment: Mapping[str, str] | None = None, *, begins: str = ""
) -> Iterator[Running]:
    """A Python program that serves, from when it prints its address, in a line with `begins`.
    Raises NeurariumError if it ends before."""
    # -u: its lines are read while it runs.
    server = subprocess.Popen(
        [sys.executable, "-u", "-c", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert server.stdout is not None  # a pipe
        printed = []
        for line in server.stdout:
            printed.append(line)
            if begins in line and (address := _ADDRESS.search(line)):
                break
        else:
            raise NeurariumError(f"The server did not start: {''.join(printed[-3:]).strip()}")
        yield Running(address[0], server.pid)
    finally:
        server.terminate()
        server.communicate()


def serve() -> None:
    """Serve the folder named on the command line, with uvicorn in one process."""
    import uvicorn

    app = FastAPI()
    files = {path.name: path.read_bytes() for path in Path(sys.argv[1]).iterdir()}

    @app.get("/{name}")
    def send(name: str) -> Response:
        return Response(files[name], media_type="text/html")

    uvicorn.run(app, port=0, access_log=False)
