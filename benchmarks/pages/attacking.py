"""Visitors that hold on to a server: half-open requests, idle connections, endless heads, floods of
texts for a live model. They run in a process of their own, so that they and who measures do not
wait for each other."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import SplitResult, urlencode, urlsplit

from app.serving.limits import raise_file_limit

_BEGUN = "attacking"
_HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Filler: "
_PAUSE = 5.0
"""Seconds between two bytes of a slow visitor."""
_AGAIN = 1.0
"""Seconds until a connection that was closed is opened again."""
_LOOK = 0.5
"""Seconds between two looks at whether the parent is still there."""

_ANSWERED = 60.0
"""Seconds that a text may take, after which it counts as not answered."""
NO_ANSWER = "none"
"""In place of a status: the connection was closed, or the time was up."""
_TEXT = "The old house stood at the end of the road. " * 8

Attack = Callable[[SplitResult, int], Awaitable[None]]


async def half_open(server: SplitResult, count: int) -> None:
    """So many connections that send a head byte by byte; closed ones are opened again."""
    await _many(server, count, _HEAD, b"x")


async def idle(server: SplitResult, count: int) -> None:
    """So many connections that send nothing; closed ones are opened again."""
    await _many(server, count, b"", b"")


async def large_head(server: SplitResult, count: int) -> None:
    """One connection after the other that sends a header of so many bytes."""
    piece = b"x" * (1 << 16)
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(server.hostname, server.port)
            try:
                writer.write(_HEAD)
                for _ in range(0, count, len(piece)):
                    writer.write(piece)
                    await writer.drain()
            finally:
                writer.close()
        await asyncio.sleep(0.01)


async def posts(server: SplitResult, count: int) -> None:
    """So many texts at once for the form at an address, and again when all are answered. Prints how
    many were answered with each status after each time."""
    while True:
        statuses = Counter(await asyncio.gather(*(_posted(server) for _ in range(count))))
        print(json.dumps(statuses), flush=True)


def post(address: str) -> str:
    """Send a text to the form at an address; the answer's status, or `NO_ANSWER`."""
    return asyncio.run(_posted(urlsplit(address)))


async def _posted(server: SplitResult) -> str:
    body = urlencode({"text": _TEXT}).encode()
    head = (
        f"POST {server.path} HTTP/1.1\r\nHost: {server.netloc}\r\nConnection: close\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()

    async def answered() -> str:
        reader, writer = await asyncio.open_connection(server.hostname, server.port)
        try:
            writer.write(head + body)
            status = (await reader.readline())[9:12].decode()
            while await reader.read(1 << 16):
                pass
            return status or NO_ANSWER
        finally:
            writer.close()

    try:
        return await asyncio.wait_for(answered(), _ANSWERED)
    except OSError:  # with TimeoutError
        return NO_ANSWER


ATTACKS: dict[str, Attack] = {
    "half-open": half_open,
    "idle": idle,
    "large head": large_head,
    "posts": posts,
}


async def _many(server: SplitResult, count: int, first: bytes, then: bytes) -> None:
    async def hold() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(server.hostname, server.port)
                try:
                    writer.write(first)
                    while not reader.at_eof():
                        with suppress(TimeoutError):
                            await asyncio.wait_for(reader.read(1), _PAUSE)
                        writer.write(then)
                        await writer.drain()
                finally:
                    writer.close()
            await asyncio.sleep(_AGAIN)

    await asyncio.gather(*(hold() for _ in range(count)))


@contextmanager
def attacked(name: str, address: str, count: int) -> Iterator[Counter[str]]:
    """While one of the `ATTACKS` runs against a server, which it has begun to reach. Afterwards the
    counter says how many texts were answered with each status."""
    command = "from benchmarks.pages.attacking import main; main()"
    attacker = subprocess.Popen(
        [sys.executable, "-c", command, name, address, str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )
    statuses: Counter[str] = Counter()
    try:
        assert attacker.stdout is not None  # a pipe
        while (line := attacker.stdout.readline().strip()) != _BEGUN:
            statuses.update(json.loads(line))
        yield statuses
    finally:
        attacker.kill()
        for line in attacker.communicate()[0].splitlines():
            statuses.update(json.loads(line))


def main() -> None:
    """Attack, as the command line says, until the process is ended or its parent is gone."""
    name, address, count = sys.argv[1:]
    raise_file_limit()

    async def attack() -> None:
        task = asyncio.ensure_future(ATTACKS[name](urlsplit(address), int(count)))
        await asyncio.sleep(2 * _LOOK)
        print(_BEGUN, flush=True)
        parent = os.getppid()
        while os.getppid() == parent and not task.done():
            await asyncio.sleep(_LOOK)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(attack())
