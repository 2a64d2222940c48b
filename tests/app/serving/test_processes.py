"""`neurarium serve --workers`: several processes, one address, one end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import psutil
import pytest
from starlette.testclient import TestClient

from app.serving import processes
from app.settings import Settings
from indexer.errors import NeurariumError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes share a Unix socket")
READ = "/api/v1/models/toy/layers/0/neurons/0/activations"


@dataclass
class Serving:
    """A server that was started from the command line."""

    process: subprocess.Popen[str]
    address: str

    def children(self) -> list[psutil.Process]:
        """Its processes, in the order in which they were started."""
        children = psutil.Process(self.process.pid).children()
        return sorted(children, key=lambda child: child.pid)

    def ask(self, method: str, path: str, **sent: object) -> httpx.Response:
        """The answer on a new connection."""
        return httpx.request(method, self.address + path, timeout=60, **sent)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def served(sqlite_filled: str) -> Iterator[Serving]:
    """Two processes for pages and one for live models."""
    command = [sys.executable, "-c", "from app.cli.main import main; main()", "serve", "--live"]
    with subprocess.Popen(
        [*command, "--workers", "2", "--port", "0", "--database", sqlite_filled],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield Serving(process, line.split("Neurarium is at ")[1].split()[0])
        finally:
            process.kill()


def test_they_answer_as_one_process_does(served: Serving, client: TestClient) -> None:
    """Pages are the same bytes; texts reach the process with models, and its answers come back."""
    for path in ("/toy/0/1", "/api/v1/models/toy/layers/0/neurons/1", "/nowhere"):
        ours, theirs = served.ask("GET", path), client.get(path)
        assert ours.status_code == theirs.status_code
        if path.startswith("/api"):
            assert ours.content == theirs.content
    assert len(served.children()) == 3
    refused = served.ask("POST", f"{READ}?run=99", json={"text": "a"})
    assert (refused.status_code, refused.json()["status"]) == (404, 404)
    assert "no run 99" in refused.json()["detail"]
    assert served.ask("POST", READ, json={"text": ""}).status_code == 422
    assert served.ask("POST", READ, content=b"x" * (1 << 20)).status_code == 413
    page = served.ask("POST", "/toy/0/1/try", data={"text": ""})
    assert page.status_code == 422
    assert "text/html" in page.headers["content-type"]
    assert "The text is empty" in page.text


@pytest.mark.parametrize("which", [0, 2])
def test_a_process_that_dies_is_replaced(served: Serving, which: int) -> None:
    """Another one takes its place, and the operator is told."""
    before = served.children()
    before[which].kill()
    assert served.process.stderr is not None
    # On a busy machine it says before that it waits for the database.
    line = next(line for line in served.process.stderr if not line.startswith("Waiting"))
    assert line == "A server process ended by signal 9: another one is started.\n"
    assert served.ask("GET", "/toy/0/1").status_code == 200
    assert served.ask("POST", READ, json={"text": ""}).status_code in (422, 503)
    after = {child.pid for child in served.children()}
    assert len(after) == 3
    assert after & {child.pid for child in before} == {
        child.pid for at, child in enumerate(before) if at != which
    }


def test_ctrl_c_ends_all(served: Serving) -> None:
    """No process is left."""
    children = served.children()
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(timeout=60) in (0, 1, 130, -signal.SIGINT)
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert (len(gone), alive) == (3, [])


def test_processes_end_with_the_command(sqlite_filled: str) -> None:
    """However it ended: the pipe that it holds is closed then."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        task = processes.Task(Settings(database_url=sqlite_filled), opened.fileno(), None)
        child = processes._start(task)
        try:
            address = f"http://127.0.0.1:{opened.getsockname()[1]}/healthz"
            assert httpx.get(address, timeout=60).status_code == 200
            assert child.process.stdin is not None
            child.process.stdin.close()
            assert child.process.wait(timeout=60) == -signal.SIGTERM
        finally:
            child.process.kill()
            child.process.wait()


def test_a_process_that_cannot_begin_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """After three starts, with one line."""
    monkeypatch.setattr(processes, "_CODE", "raise SystemExit(3)")
    said: list[str] = []
    with (
        socket.create_server(("127.0.0.1", 0)) as opened,
        pytest.raises(NeurariumError, match="ended with exit code 3 as soon as it was started"),
    ):
        processes.serve(Settings(workers=2), opened, said.append)
    assert 2 <= len(said) <= 5
