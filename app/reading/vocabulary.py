"""The texts and bytes of tokens, and tokens by their text.

Vocabularies never change, so their texts are read once and cached.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeVar

from sqlalchemy import Connection, select

from indexer.store import schema

_BATCH = 5_000
"""Tokens a SELECT: databases limit the number of bound values."""
_CACHED = 8
"""Vocabularies kept in memory."""

Piece = TypeVar("Piece", str, bytes)
"""What a token adds to a text."""


def text_of(texts: list[str], token_id: float | None) -> str:
    """A token's text; empty where there is no token (None or NaN), as of a unit that never
    fires."""
    return "" if token_id is None or math.isnan(token_id) else texts[int(token_id)]


class VocabularyIndex:
    """Finds the tokens of a vocabulary by their text."""

    def __init__(self, texts: list[str]) -> None:
        self._order = sorted(range(len(texts)), key=lambda token_id: (texts[token_id], token_id))
        self._texts = [texts[token_id] for token_id in self._order]

    def ids(self, text: str) -> list[int]:
        """Ids of all tokens with exactly this text, ascending; tokens can share a text."""
        begin, end = bisect_left(self._texts, text), bisect_right(self._texts, text)
        return self._order[begin:end]

    def starting_with(self, text: str) -> list[int]:
        """Ids of the tokens that begin with `text`, in the order of their texts."""
        begin = bisect_left(self._texts, text)
        end = bisect_left(self._texts, text + "\U0010ffff", lo=begin)
        return self._order[begin:end]


class Vocabularies:
    """The vocabularies in memory, by identity: a database can reuse the id of a deleted one."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, list[str]] = OrderedDict()
        self._indexes: dict[str, VocabularyIndex] = {}
        self._lock = threading.Lock()

    def get(self, connection: Connection, vocabulary_id: int, identity: str) -> list[str]:
        """The text of every token id; incomplete UTF-8 appears as \\xNN."""
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
                oldest, _ = self._texts.popitem(last=False)
                self._indexes.pop(oldest, None)
        return texts

    def index(self, identity: str, texts: list[str]) -> VocabularyIndex:
        """The index of a vocabulary; `texts` are the result of `get`."""
        with self._lock:
            index = self._indexes.get(identity)
        if index is None:
            index = VocabularyIndex(texts)
            with self._lock:
                if identity in self._texts:
                    self._indexes[identity] = index
        return index


def without_first_space(pieces: list[Piece]) -> list[Piece]:
    """The same texts or bytes, the first without the space it begins with."""
    if not pieces or not pieces[0] or ord(pieces[0][:1]) != ord(" "):
        return pieces
    shorter = pieces.copy()
    shorter[0] = shorter[0][1:]
    return shorter


def spellings(
    connection: Connection, vocabulary_id: int, token_ids: Iterable[int]
) -> dict[int, bytes]:
    """The bytes of each token, by id."""
    table = schema.vocabulary
    ids = sorted(set(token_ids))
    spelled: dict[int, bytes] = {}
    for batch in (ids[at : at + _BATCH] for at in range(0, len(ids), _BATCH)):
        rows = connection.execute(
            select(table.c.token_id, table.c.bytes).where(
                table.c.vocabulary_id == vocabulary_id, table.c.token_id.in_(batch)
            )
        )
        spelled |= {row.token_id: bytes(row.bytes) for row in rows}
    return spelled
