"""Token texts, read from the store once a process: a vocabulary never changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from sqlalchemy import Connection, select

from indexer.store import schema

_CACHED = 8


class Vocabularies:
    """Token texts by the vocabulary's identity: its number can be given to another later."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, list[str]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, connection: Connection, vocabulary_id: int, identity: str) -> list[str]:
        """Text of every token id; bytes that are no whole character stand as \\xNN."""
        with self._lock:
            if identity in self._texts:
                self._texts.move_to_end(identity)
                return self._texts[identity]
        table = schema.vocabulary
        rows = connection.execute(
            select(table.c.bytes)
            .where(table.c.vocabulary_id == vocabulary_id)
            .order_by(table.c.token_id)
        )
        texts = [bytes(row.bytes).decode("utf-8", "backslashreplace") for row in rows]
        with self._lock:
            self._texts[identity] = texts
            while len(self._texts) > _CACHED:
                self._texts.popitem(last=False)
        return texts


def text_of(connection: Connection, vocabulary_id: int, token_ids: Sequence[int]) -> str:
    """The text that token ids stand for; bytes that are no whole character become U+FFFD."""
    table = schema.vocabulary
    rows = connection.execute(
        select(table.c.token_id, table.c.bytes).where(
            table.c.vocabulary_id == vocabulary_id, table.c.token_id.in_(set(token_ids))
        )
    )
    spelled = {row.token_id: bytes(row.bytes) for row in rows}
    return b"".join(spelled[token_id] for token_id in token_ids).decode("utf-8", "replace")
