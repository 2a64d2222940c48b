"""The server over an app: uvicorn, its settings, and the socket it listens on."""

from __future__ import annotations

import gc
import os
import socket
import threading
from functools import partial
from ipaddress import ip_address
from typing import Any

import uvicorn
from anyio import to_thread
from fastapi import FastAPI

from app.serving.connections import Connections
from app.serving.limits import raise_file_limit, room_for_connections
from app.serving.log import log_seldom
from app.serving.protocol import BoundedProtocol
from app.settings import Settings
from app.web.visitors import LOOPBACK
from indexer.errors import NeurariumError

GRACE = 5
"""Seconds that Ctrl-C waits for open requests."""
_QUEUE = 4096
"""Connections that the system holds until they are accepted; most systems set a lower bound."""
AT_ONCE = 32
"""Connections accepted in one turn of the event loop. Until the next turn they are not counted, so
this must be far below the number of files that are kept free for them."""
_NEW_OBJECTS = 20_000
"""Python's garbage collector runs after this many new objects; pages leave no cycles behind."""


PAGES_AT_ONCE = 8
"""Pages that a process builds at the same time; further ones wait their turn. Building a page is
work for one core: with the framework's 40 threads all pages are late instead of the last ones. With
8, 16 connections get a fifth more pages a second, and the slowest a quarter sooner."""


def with_names(settings: Settings) -> Settings:
    """The settings of a server that answers to the names of this machine alone if it listens there
    alone, so that no page of another site reaches it under a name of its own (DNS rebinding)."""
    if settings.allowed_hosts or not _is_loopback(settings.host):
        return settings
    return settings.model_copy(update={"allowed_hosts": " ".join(LOOPBACK)})


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Server(uvicorn.Server):
    """Uvicorn, with a longer queue of connections than it accepts at once, and fewer threads."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening."""
        to_thread.current_default_thread_limiter().total_tokens = PAGES_AT_ONCE
        await super().startup(sockets)
        for opened in sockets or ():
            opened.listen(_QUEUE)


def server_of(
    app: Any, settings: Settings, *, grace: int = GRACE, at_once: int = AT_ONCE
) -> Server:
    """A server of an ASGI app, within the bounds on visitors; `grace`: seconds that open requests
    have when it ends; `at_once`: connections accepted in one turn of the event loop.

    Raises this process's limit on open files.
    """
    log_seldom()
    room = room_for_connections(settings.connections, raise_file_limit())
    protocol: Any = partial(BoundedProtocol, connections=Connections(room))
    # Without a limit, Ctrl-C waits as long as any visitor leaves a request open.
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_level="warning",
        access_log=False,
        backlog=at_once,
        timeout_graceful_shutdown=grace,
    )
    return Server(config)


def collect_less() -> None:
    """Run the garbage collector less often: the many objects of a page contain no cycles, and
    everything loaded before the first page stays, so searching it again only causes pauses.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


def compile_templates(app: FastAPI) -> None:
    """Compile all templates in the background: that takes much longer than the first page that
    needs one."""

    def compiled() -> None:
        environment = app.state.site.templates
        for name in environment.list_templates():
            environment.get_template(name)

    threading.Thread(target=compiled, name="templates", daemon=True).start()


def listening(settings: Settings) -> socket.socket:
    """A socket that listens where the settings say. Raises NeurariumError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        opened = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:  # for a host name that cannot be resolved, errno is negative
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else str(error.strerror).partition(" (")[0]
        raise NeurariumError(
            f"Cannot listen on {settings.host}:{settings.port} ({reason}): choose another port or "
            "address with --port or --host (NEURARIUM_PORT, NEURARIUM_HOST), or check whether "
            "Neurarium is already running there."
        ) from None
    # Every connection inherits this: else the end of a response can wait 40 ms until the browser
    # acknowledges its beginning.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened
