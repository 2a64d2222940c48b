"""What `neurarium serve` listens on."""

from __future__ import annotations

import socket

from app.serving.server import listening
from app.settings import Settings


def test_answers_are_not_held_back() -> None:
    """A connection sends what it has at once (TCP_NODELAY), whatever event loop serves it."""
    with (
        listening(Settings(host="127.0.0.1", port=0)) as opened,
        socket.create_connection(opened.getsockname()),
    ):
        accepted, _ = opened.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
