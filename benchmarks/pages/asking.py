"""A client that asks for one address after another on one kept connection, and reads whole answers.

A plain socket: `http.client` takes longer to parse an answer's headers than the server takes to
answer 304.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from indexer.errors import NeurariumError

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TAG = re.compile(rb"\r\netag: *([^\r]+)", re.IGNORECASE)
_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """One answer as sent."""

    status: int
    tag: str
    """The ETag, or nothing."""
    body: bytes
    """Still compressed; where it came in chunks, with their lengths in between."""
    milliseconds: float


class Connection:
    """A kept connection to a server. Ask, wait, ask again."""

    def __init__(self, address: str) -> None:
        """`address` is http://HOST:PORT. Raises OSError."""
        host = urlsplit(address)
        self._host = host.netloc
        self._socket = socket.create_connection((host.hostname, host.port or 80), _SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def ask(self, path: str, headers: Mapping[str, str]) -> Answer:
        """One GET. Raises NeurariumError if the server closes the connection."""
        lines = [f"GET {path} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        began = time.perf_counter()
        self._socket.sendall(request)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more(path)
        head, parts = data[:end], [data[end + 4 :]]
        status = int(head[9:12])
        if length := _LENGTH.search(head):
            missing = int(length[1]) - len(parts[0])
            while missing > 0:
                parts.append(self._more(path))
                missing -= len(parts[-1])
        elif status != 304:
            while not (parts[-1] if len(parts[-1]) > 4 else b"".join(parts)).endswith(b"0\r\n\r\n"):
                parts.append(self._more(path))
        took = 1000 * (time.perf_counter() - began)
        tag = _TAG.search(head)
        return Answer(status, tag[1].decode() if tag else "", b"".join(parts), took)

    def _more(self, path: str) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise NeurariumError(f"The server closed the connection while {path} was asked for.")
        return data


def ask_all(address: str, paths: Sequence[str], headers: Mapping[str, str]) -> list[Answer]:
    """Ask a server for each path in turn, on a new connection. Raises NeurariumError if the server
    is not there, or if any answer is not 200 or 304."""
    try:
        with closing(Connection(address)) as connection:
            answers = [connection.ask(path, headers) for path in paths]
    except OSError as error:
        raise NeurariumError(f"{address} does not answer: {error}") from None
    for path, answer in zip(paths, answers, strict=True):
        if answer.status not in (200, 304):
            raise NeurariumError(f"{path} was answered with {answer.status}.")
    return answers
