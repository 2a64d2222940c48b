"""Tokenises text in bulk, so that text never becomes a control token."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
from jaxtyping import Int64

from indexer.corpus.special_tokens import control_tokens, special_token_id
from indexer.errors import NeurariumError

PART_CHARS = 1 << 18
"""Longer texts are tokenised in parts, cut at line ends, to bound memory."""
_CUT_CHARS = 1 << 14
"""How far before the limit to look for a good place to cut."""
_CUTS = (re.compile(r"\S\n(?=\S)"), re.compile(r"\S(?= \S)"), re.compile(r"\n(?=\S)"))
"""Places to cut a text, best first. Pre-tokenizers end a word at a single line break and before a
single space; inside longer white space they differ."""
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class TokenizerInfo:
    """A tokenizer, with its settings read before loading a model could change it."""

    tokenizer: Any
    """An untouched transformers tokenizer."""
    bos_token_id: int | None
    """Begins each context; None: no BOS."""
    pad_token_id: int | None
    """Removed from both ends of pre-tokenised rows without an attention mask; None: nothing is."""
    identity: str
    """A hash of the tokenizer, part of the cache's key."""
    vocab_size: int
    """Rows of the model's embedding; all ids are below it."""
    bos: bool = True
    """Whether contexts of text begin with the BOS. Rows of ids stay as they are."""


def text_parts(text: str, size: int) -> Iterator[tuple[str, bool]]:
    """Parts of a text of up to `size` characters, each with whether it is the last.

    Cuts are where byte-level tokenizers end a word, so that the parts have the same tokens as the
    whole text. A tokenizer that marks the beginning of a text marks every part.
    """
    start = 0
    while len(text) - start > size:
        end = _cut(text, start, start + size)
        yield text[start:end], False
        start = end
    yield text[start:], True


def _cut(text: str, start: int, end: int) -> int:
    begin = max(start + 1, end - _CUT_CHARS)
    for pattern in _CUTS:
        places = [match.end() for match in pattern.finditer(text, begin, end)]
        if places:
            return places[-1]
    return end


class TextTokenizer:
    """Tokenises many texts at once, never into special tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Text may become the unknown token, even where that is also the BOS.
        unknown = special_token_id(tokenizer, "unk_token")
        controls = {i: token for i, token in control_tokens(tokenizer).items() if i != unknown}
        self._control_ids = np.array(list(controls), np.int64)
        names = sorted(controls.values(), key=len, reverse=True)
        self._control_names = re.compile("|".join(map(re.escape, names)) or r"(?!)")

    def tokenise(
        self, texts: Sequence[str]
    ) -> tuple[Int64[np.ndarray, " tokens"], Int64[np.ndarray, " texts"]]:
        """The concatenated ids of all texts, and the number of tokens in each."""
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
        try:
            encoded = self._tokenizer(
                texts,
                add_special_tokens=False,
                split_special_tokens=True,
                padding=False,
                truncation=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,  # texts longer than the model's maximum are expected
            )
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # a library in Rust that gives up raises no `Exception`
            raise NeurariumError(
                "The model's tokenizer fails on the corpus "
                f"({type(error).__name__}: {' '.join(str(error).split())[:200]}): check its files, "
                "such as tokenizer.json."
            ) from error
        rows: list[list[int]] = encoded["input_ids"]
        return rows

    def _without_controls(self, text: str) -> list[int]:
        """The ids of a text, with names of control tokens split after their first character.

        For vocabularies that spell control tokens as ordinary words, where `split_special_tokens`
        does not help.
        """
        cuts = [match.start() + 1 for match in self._control_names.finditer(text)]
        parts = [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]
        ids, _ = _flat(self._rows(parts))
        row: list[int] = ids[~np.isin(ids, self._control_ids)].tolist()
        return row


def _encodable(text: str) -> str:
    """The text with lone surrogates, which JSON allows and UTF-8 does not, as �."""
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
