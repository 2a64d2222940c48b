"""How a server ends that was started from the command line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from indexer.store.database import open_store
from tests.helpers import fixture_store


def test_ctrl_c_ends_it_while_a_request_is_open(tmp_path: Path) -> None:
    """A request that is never finished does not keep the server alive."""
    store = f"sqlite:///{tmp_path / 'store.db'}"
    engine = open_store(store, create=True)
    fixture_store.RUNS[0].write(engine)
    engine.dispose()
    command = [sys.executable, "-c", "from app.cli.main import main; main()"]
    with subprocess.Popen(
        [*command, "serve", "--live", "--database", store, "--port", "0"],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            port = int(line.split("http://127.0.0.1:")[1].split()[0].rstrip("/"))
            with socket.create_connection(("127.0.0.1", port)) as visitor:
                visitor.sendall(
                    b"POST /api/v1/models/toy/layers/0/neurons/0/activations HTTP/1.1\r\n"
                    b"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 99\r\n"
                    b"Expect: 100-continue\r\n\r\n"
                )
                assert visitor.recv(100).startswith(b"HTTP/1.1 100")  # it waits for the text
                server.send_signal(signal.SIGINT)
                assert server.wait(timeout=60) in (0, 130, -signal.SIGINT)
        finally:
            server.kill()
