"""Turns text into token ids in bulk, so that text can never become a control token. Apart, because
it is the only place where a corpus meets a tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
from jaxtyping import Int64

PIECE_CHARS = 1 << 18
"""A longer text is tokenised in pieces, cut at line ends, so that memory stays bounded."""
_SEAM_CHARS = 1 << 14
_SEAMS = (re.compile(r"\S\n(?=\S)"), re.compile(r"\S(?= \S)"), re.compile(r"\n(?=\S)"))
"""Where a text may be cut, the best first: pre-tokenizers end a word at a single line end between
two lines, and before a single space; in the middle of more white space they differ."""
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class TokenizerInfo:
    """A tokenizer and what was decided about it before anything could change it."""

    tokenizer: Any
    """An untouched transformers tokenizer."""
    bos_token_id: int | None
    """Put in front of each context; None: no BOS."""
    pad_token_id: int | None
    """Taken off the end of pre-tokenised rows; None: nothing is taken off."""
    identity: str
    """A hash of the tokenizer, for the cache's key."""
    vocab_size: int
    """Rows of the model's embedding: every id is below it."""


def text_pieces(text: str, size: int) -> Iterator[tuple[str, bool]]:
    """A text in pieces of up to `size` characters, and whether each is the last.

    Cut where byte-level tokenizers end a word, so that the pieces give the tokens of the whole. A
    tokenizer that marks the beginning of each text it is given puts its mark before every piece.
    """
    start = 0
    while len(text) - start > size:
        end = _seam(text, start, start + size)
        yield text[start:end], False
        start = end
    yield text[start:], True


def _seam(text: str, start: int, end: int) -> int:
    begin = max(start + 1, end - _SEAM_CHARS)
    for pattern in _SEAMS:
        places = [match.end() for match in pattern.finditer(text, begin, end)]
        if places:
            return places[-1]
    return end


class TextTokenizer:
    """Tokenises many texts at once, without special tokens, whatever the texts contain."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        unknown = tokenizer.unk_token_id
        controls = {
            token_id: token
            for token, token_id in zip(
                tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True
            )
            if token_id != unknown  # the one special token that text may become
        }
        self._control_ids = np.array(list(controls), np.int64)
        names = sorted(controls.values(), key=len, reverse=True)
        self._control_names = re.compile("|".join(map(re.escape, names)) or r"(?!)")

    def tokenise(
        self, texts: Sequence[str]
    ) -> tuple[Int64[np.ndarray, " tokens"], Int64[np.ndarray, " texts"]]:
        """The ids of all texts one after the other, and how many each has."""
        texts = [_encodable(text) for text in texts]
        rows = self._rows(texts)
        ids, lengths = _flat(rows)
        controls = np.flatnonzero(np.isin(ids, self._control_ids))
        if len(controls):
            for i in np.unique(np.searchsorted(np.cumsum(lengths), controls, side="right")):
                rows[i] = self._without_controls(texts[i])
            ids, lengths = _flat(rows)
        return ids, lengths

    def _rows(self, texts: list[str]) -> list[list[int]]:
        encoded = self._tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=True,
            padding=False,
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # texts longer than the model's maximum are what we expect
        )
        rows: list[list[int]] = encoded["input_ids"]
        return rows

    def _without_controls(self, text: str) -> list[int]:
        """The ids of a text with the names of control tokens in it broken up.

        Some vocabularies spell control tokens as ordinary words, where splitting special tokens
        does not help.
        """
        cuts = [match.start() + 1 for match in self._control_names.finditer(text)]
        parts = [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]
        ids, _ = _flat(self._rows(parts))
        kept: list[int] = ids[~np.isin(ids, self._control_ids)].tolist()
        return kept


def _encodable(text: str) -> str:
    """The text with lone surrogates, which JSON allows and UTF-8 does not, replaced."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def _flat(
    rows: Sequence[Sequence[int]],
) -> tuple[Int64[np.ndarray, " tokens"], Int64[np.ndarray, " texts"]]:
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum())), lengths
