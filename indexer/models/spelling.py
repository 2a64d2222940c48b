"""The bytes that each token adds to a text, asked of the tokenizer's own decoder.

A token is decoded between two words, and what it adds to them is its spelling: a decoder may treat
the first and the last token of a text differently, and a token's name need not show its spaces.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tokenizers import decoders

Decode = Callable[[Sequence[Sequence[int]]], list[str]]
"""From rows of token ids to their texts."""

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_CHUNK = 512
_VOTERS = 2048
"""Tokens that decide where a token's text begins."""


def spellings(
    tokenizer: Any, token_ids: Sequence[int], names: Mapping[int, str], added: frozenset[int]
) -> list[bytes]:
    """The bytes that each of `token_ids` adds to a text.

    Args:
        tokenizer: any transformers tokenizer.
        token_ids: ids that have a name.
        names: the vocabulary by id.
        added: ids of tokens that were added to the vocabulary.
    """
    decode = _decoder_of(tokenizer)
    ordinary = [i for i in names if i not in added] or list(names)
    words = _two_words(decode, ordinary)
    if not words or not token_ids:
        return [names[i].encode() for i in token_ids]
    voters = token_ids[:: 1 + len(token_ids) // _VOTERS]
    inserted = dict(zip(token_ids, _between(decode, words, token_ids, voters), strict=True))
    # Some decoders (CTC's) drop a token that is the same as its neighbour.
    same = sorted(set(words) & inserted.keys())
    others = _two_words(decode, [i for i in ordinary if i not in words]) if same else []
    if others:
        inserted |= zip(same, _between(decode, others, same, voters), strict=True)
    return [_bytes(inserted[i], names[i], i in added) for i in token_ids]


def _between(
    decode: Decode, words: Sequence[int], token_ids: Sequence[int], voters: Sequence[int]
) -> list[str]:
    """What each of `token_ids` adds between two words, at the place where most `voters` do."""
    before, after = words
    (around,) = decode([[before, after]])
    place = _most_common_place(around, decode([[before, i, after] for i in voters]))
    texts = decode([[before, i, after] for i in token_ids])
    return [_inserted(around, text, place) for text in texts]


def drops_first_space(tokenizer: Any, spelled: Sequence[bytes]) -> bool:
    """Whether a text loses the space that its first token begins with, as SentencePiece's do.
    `spelled` are the bytes of all tokens."""
    words = [i for i, content in enumerate(spelled) if re.match(rb" \w", content)][:_CHUNK]
    texts = _decoder_of(tokenizer)([[i] for i in words])
    return 2 * sum(not text.startswith(" ") for text in texts) > len(texts)


def drops_last_space(tokenizer: Any, spelled: Sequence[bytes]) -> bool:
    """Whether a text loses the space that its last token ends with, as it does where a mark ends a
    word. `spelled` are the bytes of all tokens."""
    words = [i for i, content in enumerate(spelled) if re.search(rb"\w $", content)][:_CHUNK]
    # Some decoders (Metaspace's) drop all spaces of a text's first token, so it is not the first.
    texts = _decoder_of(tokenizer)([[i, i] for i in words])
    return 2 * sum(not text.endswith(" ") for text in texts) > len(texts)


def _decoder_of(tokenizer: Any) -> Decode:
    """The tokenizer's decoder, which drops no special token and tidies no space."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return lambda rows: [
            tokenizer.decode(
                list(row), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            for row in rows
        ]
    if backend.decoder is None and _splits_bytes(json.loads(backend.to_str())):
        byte_level = decoders.ByteLevel()  # the inverse of how this tokenizer reads a text
        return lambda rows: [
            byte_level.decode(tokenizer.convert_ids_to_tokens(list(row))) for row in rows
        ]
    return lambda rows: backend.decode_batch(list(map(list, rows)), skip_special_tokens=False)


def _splits_bytes(facts: dict[str, Any]) -> bool:
    """Whether a tokenizer.json writes the bytes of a text in GPT-2's alphabet."""
    first = facts.get("pre_tokenizer") or {}
    return any(part["type"] == "ByteLevel" for part in first.get("pretokenizers", [first]) if part)


def _two_words(decode: Decode, token_ids: Sequence[int]) -> list[int]:
    """Two tokens that decode to letters alone, or to whatever comes nearest; [] if all decode to
    nothing."""
    others: tuple[list[int], list[int]] = ([], [])
    letters: list[int] = []
    for start in range(0, len(token_ids), _CHUNK):
        chunk = token_ids[start : start + _CHUNK]
        for i, text in zip(chunk, decode([[i] for i in chunk]), strict=True):
            if text.isalpha() and text.isascii():
                letters.append(i)
                if len(letters) == 2:
                    return letters
            elif text and _BROKEN not in text:
                others[not text.isalpha()].append(i)
    chosen = [*letters, *others[0][:2], *others[1][:2]]
    return (chosen * 2)[:2]


def _places(around: str, text: str) -> tuple[int, int]:
    """The first and last place of `around` where inserting something gives `text`; the first is
    greater if there is no such place."""
    same = sum(1 for _ in itertools.takewhile(_equal, zip(around, text, strict=False)))
    backwards = zip(reversed(around), reversed(text), strict=False)
    ending = sum(1 for _ in itertools.takewhile(_equal, backwards))
    return len(around) - ending, min(same, len(text))


def _equal(pair: tuple[str, str]) -> bool:
    return pair[0] == pair[1]


def _most_common_place(around: str, texts: Sequence[str]) -> int:
    """Where in `around` the tokens' texts go, the same place for as many as possible. Of several,
    the first: a space belongs to the token after it."""
    votes = [0] * (len(around) + 1)
    for text in texts:
        first, last = _places(around, text)
        for place in range(first, last + 1):
            votes[place] += 1
    return votes.index(max(votes))


def _inserted(around: str, text: str, place: int) -> str:
    """The part of `text` that is not in `around`, at `place` if possible."""
    more = len(text) - len(around)
    if more >= 0 and text.startswith(around[:place]) and text.endswith(around[place:]):
        return text[place : place + more]
    first, last = _places(around, text)
    begin = min(last, len(around))
    end = min(len(around) - first, len(around) - begin, len(text) - begin)
    return text[begin : len(text) - end]


def _bytes(text: str, name: str, added: bool) -> bytes:
    """A token's text in UTF-8; the bytes its name stands for if those are no whole characters,
    which a decoder can only replace or leave out."""
    if text and _BROKEN not in text:
        return text.encode("utf-8", "replace")
    if added:  # texts contain it unchanged
        return name.encode()
    shown = _once(text)
    for content in _readings(name):
        if shown in (_once(content.decode("utf-8", "replace")), content.decode("utf-8", "ignore")):
            return content
    return text.encode()


def _once(text: str) -> str:
    """The text with one mark for each run of broken characters: decoders differ in how many."""
    return re.sub(f"{_BROKEN}+", _BROKEN, text)


def _readings(name: str) -> Iterator[bytes]:
    """The bytes that a token's name may stand for, by each of the usual ways to write them."""
    if byte := _BYTE_TOKEN.fullmatch(name):
        yield bytes([int(byte[1], 16)])
    if all(char in _ALPHABET for char in name):
        yield bytes(_ALPHABET[char] for char in name)
    if name and max(name) <= "\xff":
        yield name.encode("latin-1")


def _gpt2_alphabet() -> dict[str, int]:
    """GPT-2's one printable character per byte: printable Latin-1 stands for itself, the others
    are numbered from 256 up, in order."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in plain}
    others = [byte for byte in range(256) if byte not in set(plain)]
    return alphabet | {chr(256 + n): byte for n, byte in enumerate(others)}


_ALPHABET = _gpt2_alphabet()
