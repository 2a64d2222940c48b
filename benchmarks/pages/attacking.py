"""Visitors that hold on to a server: half-open requests, idle connections, endless heads. They run
in a process of their own, so that they and who measures do not wait for each other."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from app.serving.limits import raise_file_limit

_BEGUN = "attacking"
_HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Filler: "
_PAUSE = 5.0
"""Seconds between two bytes of a slow visitor."""
_AGAIN = 1.0
"""Seconds until a connection that was closed is opened again."""
_LOOK = 0.5
"""Seconds between two looks at whether the parent is still there."""

Attack = Callable[[str, int, int], Awaitable[None]]


async def half_open(host: str, port: int, count: int) -> None:
    """So many connections that send a head byte by byte; closed ones are opened again."""
    await _many(host, port, count, _HEAD, b"x")


async def idle(host: str, port: int, count: int) -> None:
    """So many connections that send nothing; closed ones are opened again."""
    await _many(host, port, count, b"", b"")


async def large_head(host: str, port: int, count: int) -> None:
    """One connection after the other that sends a header of so many bytes."""
    piece = b"x" * (1 << 16)
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(_HEAD)
                for _ in range(0, count, len(piece)):
                    writer.write(piece)
                    await writer.drain()
            finally:
                writer.close()
        await asyncio.sleep(0.01)


ATTACKS: dict[str, Attack] = {"half-open": half_open, "idle": idle, "large head": large_head}


async def _many(host: str, port: int, count: int, first: bytes, then: bytes) -> None:
    async def hold() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(host, port)
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
def attacked(name: str, address: str, count: int) -> Iterator[None]:
    """While one of the `ATTACKS` runs against a server, which it has begun to reach."""
    host = urlsplit(address)
    command = "from benchmarks.pages.attacking import main; main()"
    attacker = subprocess.Popen(
        [sys.executable, "-c", command, name, str(host.hostname), str(host.port), str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert attacker.stdout is not None  # a pipe
        assert attacker.stdout.readline().strip() == _BEGUN
        yield
    finally:
        attacker.kill()
        attacker.communicate()


def main() -> None:
    """Attack, as the command line says, until the process is ended or its parent is gone."""
    name, host, port, count = sys.argv[1:]
    raise_file_limit()

    async def attack() -> None:
        task = asyncio.ensure_future(ATTACKS[name](host, int(port), int(count)))
        await asyncio.sleep(2 * _LOOK)
        print(_BEGUN, flush=True)
        parent = os.getppid()
        while os.getppid() == parent and not task.done():
            await asyncio.sleep(_LOOK)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(attack())
