"""Serves a store from a thread of this process, such as a notebook's."""

from __future__ import annotations

import threading
from html import escape
from pathlib import Path

from app.main import create_app
from app.serving.server import listening, server_of, with_names
from app.settings import Settings
from indexer.errors import NeurariumError
from neurarium.local import Local, database_url
from neurarium.objects import Store

_SECONDS = 10
"""How long stopping may take."""


class Server:
    """A server that runs in a thread until it is stopped or the process ends."""

    def __init__(self, settings: Settings) -> None:
        settings = with_names(settings)
        app = create_app(settings)  # which may fail, before anything listens
        self._socket = listening(settings)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        """Its address on this machine."""
        self._server = server_of(app, settings, grace=2)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join(_SECONDS)
        self._socket.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Neurarium at {self.url}>"

    def _repr_html_(self) -> str:
        """A link, for notebooks."""
        return f'<a href="{escape(self.url)}" target="_blank">{escape(self.url)}</a>'


def start(store: Store | str | Path | None, *, port: int, live: bool) -> Server:
    """Serve a store on 127.0.0.1. Raises NeurariumError."""
    if isinstance(store, Store):
        if not isinstance(store.reader, Local):
            raise NeurariumError(f"{store.place} is served already: serve a database instead.")
        url = store.reader.url
    else:
        url = database_url(store)
        Local(url).close()  # a database that is not there is not made
    return Server(Settings(database_url=url, host="127.0.0.1", port=port, live=live))
