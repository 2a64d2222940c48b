"""How a text that is not one token is split: read off the corpus, where the tokenizer has split it.

The server has no tokenizer. A text that no stored context has is guessed.
"""

from __future__ import annotations

from collections import Counter

from app.contexts.queries import rows_of
from app.reading.runs import run_ref
from app.reading.store import Reading
from app.search.schemas import Splitting, Token, TokenSplit
from app.search.texts import starts_of, tokens_at
from indexer.store.packing.codec import unpack_token_ids
from indexer.store.text import index as text_index
from indexer.store.text.words import Phrase, words_of

LONGEST = 200
"""The most characters of a text that is split."""
_CONTEXTS_READ = 40
_LONGEST_TOKEN = 64
"""The most characters of a token in a guess."""


def split(reading: Reading, text: str) -> TokenSplit:
    """How `text` is split into tokens, as it is and with a space in front."""
    found: list[Splitting] = []
    if len(text) <= LONGEST:
        contexts = _contexts(reading, text)
        for spelled in dict.fromkeys((text, f" {text.lstrip()}")):
            found += _in_contexts(reading, spelled, contexts)
        if not found and (guess := _guess(reading, text)):
            found = [Splitting(text=text, pieces=guess, contexts=0)]
    return TokenSplit(model=reading.run.model, run=run_ref(reading.run), text=text, splits=found)


def _contexts(reading: Reading, text: str) -> list[tuple[list[int], list[bytes]]]:
    """The included token ids, and the bytes of each, of some contexts with the words of a text."""
    words = tuple(word.word for word in words_of(text))
    if not words:
        return []
    reading.check_texts()
    phrase = Phrase(words, prefix=True)
    ids = text_index.search(reading.connection, reading.run.id, [phrase], -1, _CONTEXTS_READ)
    included = [
        unpack_token_ids(bytes(row.token_ids))[row.included_from :].tolist()
        for row in rows_of(reading, ids).values()
    ]
    spelled = reading.spelling
    return [(token_ids, [spelled[one] for one in token_ids]) for token_ids in included]


def _in_contexts(
    reading: Reading, text: str, contexts: list[tuple[list[int], list[bytes]]]
) -> list[Splitting]:
    """The ways in which contexts split a text, where its ends are ends of tokens."""
    ways: Counter[tuple[int, ...]] = Counter()
    for token_ids, spelling in contexts:
        whole = b"".join(spelling).decode("utf-8", "replace")
        in_context = set()
        at = whole.find(text)
        while at >= 0:
            (covered,) = tokens_at(spelling, starts_of(spelling), [(at, at + len(text))])
            if b"".join(spelling[covered.start : covered.stop]) == text.encode("utf-8", "replace"):
                in_context.add(tuple(token_ids[covered.start : covered.stop]))
            at = whole.find(text, at + 1)
        ways.update(in_context)
    return [
        Splitting(text=text, pieces=_tokens(reading, way), contexts=count)
        for way, count in ways.most_common(3)
        if len(way) > 1
    ]


def _guess(reading: Reading, text: str) -> list[Token]:
    """The text as tokens, each the longest that fits; empty if something is left over."""
    pieces, at = [], 0
    while at < len(text):
        for end in range(min(len(text), at + _LONGEST_TOKEN), at, -1):
            if ids := reading.token_index.ids(text[at:end]):
                pieces.append(ids[0])
                at = end
                break
        else:
            return []
    return _tokens(reading, pieces)


def _tokens(reading: Reading, ids: tuple[int, ...] | list[int]) -> list[Token]:
    return [Token(token=reading.vocabulary[token_id], token_id=token_id) for token_id in ids]
