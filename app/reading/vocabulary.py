"""Token texts, read from the store once a process, as a vocabulary never changes; and tokens by
their text."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeVar

from sqlalchemy import Connection, select

from indexer.store import schema

_AT_ONCE = 5_000
"""Tokens that one statement names: databases have a limit to that."""
_CACHED = 8

Piece = TypeVar("Piece", str, bytes)
"""What a token adds to a text."""


class VocabularyIndex:
    """Tokens by their text, and by how they begin."""

    def __init__(self, texts: list[str]) -> None:
        self._order = sorted(range(len(texts)), key=lambda token_id: (texts[token_id], token_id))
        self._texts = [texts[token_id] for token_id in self._order]

    def ids(self, text: str) -> list[int]:
        """Ids of the tokens of exactly this text, lowest first: bytes may be spelled alike."""
        begin, end = bisect_left(self._texts, text), bisect_right(self._texts, text)
        return self._order[begin:end]

    def starting_with(self, text: str) -> list[int]:
        """Ids of the tokens that begin so."""
        begin = bisect_left(self._texts, text)
        end = bisect_left(self._texts, text + "\U0010ffff", lo=begin)
        return self._order[begin:end]


class Vocabularies:
    """Token texts by the vocabulary's identity: its number can be given to another later."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, list[str]] = OrderedDict()
        self._indexes: dict[str, VocabularyIndex] = {}
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
                gone, _ = self._texts.popitem(last=False)
                self._indexes.pop(gone, None)
        return texts

    def index(self, identity: str, texts: list[str]) -> VocabularyIndex:
        """The tokens of a vocabulary by their text; `texts` are what `get` gave."""
        with self._lock:
            found = self._indexes.get(identity)
        if found is None:
            found = VocabularyIndex(texts)
            with self._lock:
                if identity in self._texts:
                    self._indexes[identity] = found
        return found


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
    """The bytes of tokens, by id."""
    table = schema.vocabulary
    wanted = sorted(set(token_ids))
    found: dict[int, bytes] = {}
    for some in (wanted[at : at + _AT_ONCE] for at in range(0, len(wanted), _AT_ONCE)):
        rows = connection.execute(
            select(table.c.token_id, table.c.bytes).where(
                table.c.vocabulary_id == vocabulary_id, table.c.token_id.in_(some)
            )
        )
        found |= {row.token_id: bytes(row.bytes) for row in rows}
    return found
