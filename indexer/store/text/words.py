"""Splits texts into words, the same way for both databases and for queries."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

MOST = 64
"""Significant characters of a word."""
BOUNDARY = "\ue000"
"""Marks a special token among a text's words: no phrase reaches over it. It is never a word
itself."""

_UNSPACED = (
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff\u0e00-\u0eff\u1780-\u17ff\u1000-\u109f"
)
"""Scripts without spaces between words: each character is a word."""
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
)
"""Accents and vowel signs that follow their letter, and letters in the same ranges."""
_WORD = re.compile(
    rf"[{_UNSPACED}]|(?![{_UNSPACED}])[^\W_](?:(?![{_UNSPACED}])(?:[^\W_]|[{_MARKS}]))*"
)

_PLAIN = (
    "".join(chr(n).lower() if chr(n).isalnum() else " " for n in range(128)).encode().ljust(256)
)
"""Translation of each byte of an ASCII text: lower case, or a space."""


class Word(NamedTuple):
    """A word and its place in the text."""

    word: str
    start: int
    end: int


@dataclass(frozen=True)
class Phrase:
    """Consecutive words; with `prefix`, the last is only the beginning of a word."""

    words: tuple[str, ...]
    prefix: bool = False


def words_of(text: str) -> Iterator[Word]:
    """The words of a text in order: runs of letters and digits, in lower case.

    `foo_bar.baz` is three words, and so are three Chinese characters. Accents stay, normalised
    (NFKC).
    """
    for match in _WORD.finditer(text):
        if folded := _folded(match.group()):
            yield Word(folded, match.start(), match.end())


def plain_words(text: str) -> list[str]:
    """The words of `words_of` without places, fast for ASCII."""
    if not text.isascii():
        return [folded for word in _WORD.findall(text) if (folded := _folded(word))]
    words = text.encode().translate(_PLAIN).decode().split()
    if max(map(len, words), default=0) > MOST:
        return [word[:MOST] for word in words]
    return words


def _folded(word: str) -> str:
    """The normalised word, cut to `MOST` characters; empty if no significant character is left."""
    folded = word.lower()
    if not folded.isascii():
        # Normalising may give characters that belong to no word.
        folded = "".join(filter(_counts, unicodedata.normalize("NFKC", word).lower()))
    return folded[:MOST]


def _counts(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")
