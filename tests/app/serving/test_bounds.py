"""What slow and greedy visitors may hold: heads, bodies, connections, lines in the log."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from anyio import to_thread

from app.serving import connections
from app.serving.connections import Connections, Wait
from app.serving.limits import room_for_connections
from app.serving.log import Seldom
from app.serving.protocol import MOST_HEAD
from app.serving.server import PAGES_AT_ONCE, Server, listening, server_of
from app.settings import Settings

PLAIN = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
go, begun = threading.Event(), threading.Semaphore(0)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers a request with the number of bytes in its body, /threads with the number of threads;
    /wait waits until the test says."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message["body"])
        if not message["more_body"]:
            break
    if scope["path"] == "/threads":
        size = int(to_thread.current_default_thread_limiter().total_tokens)
    if scope["path"] == "/wait":
        begun.release()
    while scope["path"] == "/wait" and not go.is_set():
        await asyncio.sleep(0.01)
    body = b"x" * (1 << 23) if scope["path"] == "/large" else str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Visits:
    """A real server to which connections can be opened; all are closed at the end."""

    server: Server
    address: Any
    opened: ExitStack

    def __call__(self) -> socket.socket:
        """A new connection."""
        return self.opened.enter_context(socket.create_connection(self.address, 30))


@contextmanager
def server(most: int) -> Iterator[Visits]:
    """A server with room for so many connections, which often looks at who waits too long."""
    settings = Settings(host="127.0.0.1", port=0, connections=most)
    with (
        pytest.MonkeyPatch.context() as patch,
        listening(settings) as opened,
        ExitStack() as clients,
    ):
        patch.setattr(connections, "_SWEEP", 0.05)
        running = server_of(app, settings)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        yield Visits(running, opened.getsockname(), clients)
        go.set()
        running.should_exit = True
        thread.join(30)
        go.clear()


@pytest.fixture(scope="module")
def visit() -> Iterator[Visits]:
    """Opens a connection to a server with room for eight."""
    with server(8) as visits:
        yield visits


def rest(visitor: socket.socket) -> bytes:
    """All that the server still sends, until it ends the connection."""
    data = b""
    try:
        while piece := visitor.recv(1 << 16):
            data += piece
    except ConnectionResetError:
        pass
    return data


def status(answer: bytes) -> int:
    """The status of an answer."""
    return int(answer[9:12])


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (PLAIN[:-2] + b"X: " + b"x" * (MOST_HEAD - 5000) + b"\r\n\r\n", 200),
        (PLAIN[:-2] + b"X: " + b"x" * (MOST_HEAD + 5000) + b"\r\n\r\n", 431),
        (PLAIN[:-2] + b"X: " + b"x" * (MOST_HEAD + 5000), 431),
        (PLAIN[:-2] + b"X: x\r\n" * (MOST_HEAD // 5), 431),
        (b"GET /" + b"x" * (MOST_HEAD + 5000) + PLAIN[5:], 431),
        (b"\r\n" * MOST_HEAD, 431),
    ],
)
def test_a_head_is_bounded(visit: Visits, sent: bytes, expected: int) -> None:
    """Whether one header is long, or all together, or the address, and before it is complete."""
    visitor = visit()
    visitor.sendall(sent)
    assert status(visitor.recv(1 << 16)) == expected
    if expected == 431:
        assert visitor.recv(1) == b""


def test_few_pages_are_built_at_once(visit: Visits) -> None:
    """The framework would start forty, each of which makes all others later."""
    visitor = visit()
    visitor.sendall(PLAIN.replace(b"/ ", b"/threads "))
    assert visitor.recv(1 << 16).endswith(b"\r\n\r\n%d" % PAGES_AT_ONCE)


def test_a_body_is_not_bounded_by_that_but_what_frames_it_is(visit: Visits) -> None:
    """A long body is read; headers that follow it, and what is written beside a chunk, are not
    collected without end."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    visitor = visit()
    visitor.sendall(head + b"%x\r\n" % (1 << 20) + b"x" * (1 << 20) + b"\r\n0\r\n\r\n")
    assert rest(visitor).endswith(b"1048576")
    for sent in (b"0\r\n" + b"X: x\r\n" * MOST_HEAD, b"1;" + b"x" * (4 * MOST_HEAD)):
        visitor = visit()
        try:
            visitor.sendall(head + sent)
        except ConnectionError:
            continue
        assert b"200 OK" not in rest(visitor)


def test_few_requests_may_be_sent_ahead(visit: Visits) -> None:
    """Ten are answered in turn; thousands at once are not kept."""
    visitor = visit()
    visitor.sendall(9 * PLAIN + PLAIN[:-2] + b"Connection: close\r\n\r\n")
    assert rest(visitor).count(b"200 OK") == 10
    visitor = visit()
    visitor.sendall(2000 * PLAIN)
    assert rest(visitor).count(b"200 OK") < 2000


@pytest.mark.parametrize(
    ("sent", "wait"),
    [
        (b"", Wait.FIRST),
        (b"GET / HT", Wait.FIRST),
        (PLAIN + b"GET / HT", Wait.HEAD),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx", Wait.BODY),
        (b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n", Wait.UNREAD),
    ],
)
def test_waiting_for_a_visitor_ends(
    visit: Visits, monkeypatch: pytest.MonkeyPatch, sent: bytes, wait: Wait
) -> None:
    """A head, a body and an unread answer each have their time."""
    monkeypatch.setitem(connections.SECONDS, wait, 0.0)
    before = set(visit.server.server_state.connections)
    visitor = visit()
    visitor.sendall(sent)
    if wait is Wait.UNREAD:
        while not visitor.recv(1, socket.MSG_PEEK):
            time.sleep(0.01)
    if wait is Wait.UNREAD:  # what was sent can still be read, and is not the whole answer
        while visit.server.server_state.connections - before:
            time.sleep(0.01)
        assert len(rest(visitor)) < 1 << 23
    else:
        assert rest(visitor).count(b"200 OK") == sent.count(PLAIN)


def test_whoever_goes_on_reading_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer may take as long as its visitor needs, while something of it is read."""
    loop, others = asyncio.new_event_loop(), Connections(4)
    monkeypatch.setitem(connections.SECONDS, Wait.UNREAD, 0.0)
    reading, stuck = Held(reads=True), Held()
    for connection in (reading, stuck):
        assert others.opened(connection, loop)
        others.waits(connection, Wait.UNREAD, 0.0)
    others._end_overdue(loop)
    assert (reading.ended, stuck.ended) == (False, True)
    reading.reads = False
    others._end_overdue(loop)
    assert reading.ended
    assert not len(others)
    loop.close()


def test_whoever_waits_longest_makes_room(visit: Visits) -> None:
    """More connections than there is room for: each new one is answered, and old ones end."""
    waiting = [visit() for _ in range(30)]
    for _ in range(3):
        visitor = visit()
        visitor.sendall(PLAIN)
        assert status(visitor.recv(1 << 16)) == 200
    for ended in waiting[:20]:
        assert rest(ended) == b""


def test_without_room_a_visitor_is_told() -> None:
    """Requests that are being answered are not ended for a new one."""
    with server(2) as connect:
        busy = [connect() for _ in range(2)]
        for visitor in busy:
            visitor.sendall(PLAIN.replace(b"/", b"/wait", 1))
        assert all(begun.acquire(timeout=30) for _ in busy)
        assert status(rest(connect())) == 503
        go.set()
        assert [status(visitor.recv(1 << 16)) for visitor in busy] == [200, 200]


class Held:
    """A connection that only waits."""

    def __init__(self, reads: bool = False) -> None:
        self.ended, self.reads = False, reads

    def abort(self) -> None:
        self.ended = True

    def progressed(self, wait: Wait) -> bool:
        return self.reads


def test_the_order_in_which_connections_end() -> None:
    """Those without a request before those that had one, each the longest-waiting first."""
    loop = asyncio.new_event_loop()
    others = Connections(4)
    idle, first, second, busy = held = [Held() for _ in range(4)]
    for connection in held:
        assert others.opened(connection, loop)
    others.waits(idle, Wait.IDLE, 0.0)
    others.waits(busy, None, 0.0)
    expected = [first, second, idle]
    for gone in expected:
        new = Held()
        assert others.opened(new, loop)
        others.waits(new, None, 1.0)
        assert gone.ended
        others.waits(gone, Wait.HEAD, 2.0)  # a late word of it changes nothing
    assert not others.opened(Held(), loop)
    assert not busy.ended
    assert len(others) == 4
    loop.close()


def test_a_full_room_leaves_files_for_others() -> None:
    """Connections never take all the files that a process may have open."""
    assert room_for_connections(2000, 20_000) == 2000
    assert room_for_connections(2000, 1024) == 768
    assert room_for_connections(2000, 256) == 128
    assert room_for_connections(10, 256) == 10


def test_the_file_limit_is_raised() -> None:
    """From the soft limit to the hard one."""
    resource = pytest.importorskip("resource")
    code = (
        "import resource\n"
        "from app.serving.limits import raise_file_limit\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))\n"
        "assert raise_file_limit() == 128\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (128, 128)\n"
    )
    assert resource
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_log_is_not_flooded() -> None:
    """Five lines of a kind a minute; then one says how many more there were. Bugs are all told."""
    now = 0.0
    seldom = Seldom(lambda: now)

    def record(message: str, level: int = logging.WARNING) -> logging.LogRecord:
        return logging.LogRecord("uvicorn.error", level, "", 0, message, (), None)

    assert sum(seldom.filter(record("Invalid HTTP request received.")) for _ in range(5000)) == 5
    assert seldom.filter(record("Something else."))
    bug = "Exception in ASGI application\n"
    assert all(seldom.filter(record(bug, logging.ERROR)) for _ in range(50))
    now = 61.0
    later = record("Invalid HTTP request received.")
    assert seldom.filter(later)
    assert later.getMessage() == "Invalid HTTP request received. (4,995 more before)"
