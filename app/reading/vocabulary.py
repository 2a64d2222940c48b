"""The texts and bytes of tokens, and tokens by their text.

Vocabularies never change, so their texts are read once and cached.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, or_, select

from indexer.store import schema
from indexer.store.checksums import damaged_vocabulary, vocabulary_identity

_CACHED = 8
"""Vocabularies cached in memory."""

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


class Vocabulary:
    """The tokens of a vocabulary by id, as bytes and as texts."""

    def __init__(self, spelling: list[bytes]) -> None:
        self.spelling = spelling
        """The bytes of every token id."""
        self.texts = [token.decode("utf-8", "backslashreplace") for token in spelling]
        """The text of every token id; incomplete UTF-8 appears as \\xNN."""

    @cached_property
    def index(self) -> VocabularyIndex:
        """Finds tokens by their text."""
        return VocabularyIndex(self.texts)


_WORD_AFTER_SPACE = (
    select(schema.vocabulary.c.token_id)
    .where(
        schema.vocabulary.c.vocabulary_id == bindparam("vocabulary_id"),
        or_(
            schema.vocabulary.c.bytes.between(b" a", b" z\xff"),
            schema.vocabulary.c.bytes >= b" \xc3",
        ),
        schema.vocabulary.c.bytes < b"!",
    )
    .limit(1)
)


class Vocabularies:
    """The vocabularies in memory, by identity: a database can reuse the id of a deleted one."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Vocabulary] = OrderedDict()
        self._spaced: dict[str, bool] = {}
        self._lock = threading.Lock()

    def in_store(self, connection: Connection) -> list[tuple[int, str]]:
        """The id and the identity of every vocabulary."""
        table = schema.vocabularies
        found = connection.execute(select(table.c.id, table.c.identity).order_by(table.c.id))
        return [(row.id, row.identity) for row in found]

    def begin_words_with_space(
        self, connection: Connection, vocabulary_id: int, identity: str
    ) -> bool:
        """Whether a vocabulary has words with a space in front: only there does a missing space
        tell a word's end from its beginning. Reads tokens up to the first such word."""
        if identity not in self._spaced:
            found = connection.execute(_WORD_AFTER_SPACE, {"vocabulary_id": vocabulary_id})
            self._spaced[identity] = found.first() is not None
        return self._spaced[identity]

    def get(self, connection: Connection, vocabulary_id: int, identity: str) -> Vocabulary:
        """A vocabulary, read on first use. Raises Damaged."""
        with self._lock:
            if identity in self._known:
                self._known.move_to_end(identity)
                return self._known[identity]
        table = schema.vocabulary
        rows = connection.execute(
            select(table.c.bytes)
            .where(table.c.vocabulary_id == vocabulary_id)
            .order_by(table.c.token_id)
        )
        spelling = [bytes(row.bytes) for row in rows]
        if vocabulary_identity(spelling) != identity:
            raise damaged_vocabulary(connection, vocabulary_id)
        vocabulary = Vocabulary(spelling)
        with self._lock:
            self._known[identity] = vocabulary
            while len(self._known) > _CACHED:
                self._known.popitem(last=False)
        return vocabulary


def as_decoded(
    pieces: list[Piece], tokenizer: Mapping[str, Any], *, first: bool, last: bool
) -> list[Piece]:
    """The texts or bytes of consecutive tokens as the tokenizer decodes them, given what its run
    says of it: some drop the space that a text begins with (`first`: the text begins with these
    tokens) or ends with (`last`)."""
    if first and tokenizer.get("first_space") == "dropped" and pieces:
        pieces = pieces.copy()
        pieces[0] = _after_space(pieces[0])
    if last and tokenizer.get("last_space") == "dropped" and pieces:
        pieces = pieces.copy()
        pieces[-1] = _before_space(pieces[-1])
    return pieces


def padded(text: str, tokenizer: Mapping[str, Any]) -> list[str]:
    """The texts of which `as_decoded` may leave `text`."""
    texts = []
    if tokenizer.get("first_space") == "dropped":
        texts.append(f" {text}")
    if tokenizer.get("last_space") == "dropped":
        texts.append(f"{text} ")
    return texts


def _after_space(piece: Piece) -> Piece:
    return piece[1:] if piece and ord(piece[:1]) == ord(" ") else piece


def _before_space(piece: Piece) -> Piece:
    return piece[:-1] if piece and ord(piece[-1:]) == ord(" ") else piece
