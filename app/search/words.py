"""The query language of the search by text: parses queries, and finds their matches.

A query has words in any order, "words in quotes" that have to be consecutive, and `begin*` for
words that begin so. Only letters and digits count, without case: `foo_Bar` is the phrase “foo bar”.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from indexer.store.text.words import BOUNDARY, Phrase, Word, words_of

MOST_WORDS = 32
"""The most words of a query."""

_TERM = re.compile(r'"(?P<quoted>[^"]*)"(?P<after>\*?)|(?P<open>"[^"]*$)|(?P<plain>[^\s"]+)')


class TextError(ValueError):
    """A query cannot be used; its message says why and what to do."""


def parse(text: str) -> list[Phrase]:
    """The phrases that a text must contain. Raises TextError."""
    phrases: list[Phrase] = []
    for term in _TERM.finditer(text):
        if term["open"]:
            raise TextError(
                f"The quotation mark at character {term.start() + 1} is not closed: close it, or "
                "leave it out."
            )
        text_of_term = term["plain"] or term["quoted"] or ""
        words = tuple(word.word for word in words_of(text_of_term))
        if words:
            prefix = text_of_term.endswith("*") or bool(term["after"])
            phrases.append(Phrase(words, prefix))
    count = sum(len(phrase.words) for phrase in phrases)
    if not count:
        raise TextError(
            'There are no words in the query: use words, "a phrase" in quotation marks, or the '
            "beginning of a word with an asterisk, such as neuro*."
        )
    if count > MOST_WORDS:
        raise TextError(f"The query has {count} words: the maximum is {MOST_WORDS}.")
    return phrases


def matches(
    text: str, phrases: list[Phrase], special: Sequence[tuple[int, int]] = ()
) -> list[tuple[int, int]]:
    """Where a text contains any of the phrases: (start, end) of each match in order, with
    overlapping matches merged. `special` are the places of special tokens in order: no match is in
    one, or reaches over one."""
    words = list(_words(text, special))
    places: dict[str, list[int]] = {}
    for at, word in enumerate(words):
        places.setdefault(word.word, []).append(at)
    spans = []
    for phrase in phrases:
        *before, last = phrase.words
        if before:
            firsts = places.get(before[0], [])
        elif phrase.prefix:
            firsts = [at for word, ats in places.items() if word.startswith(last) for at in ats]
        else:
            firsts = places.get(last, [])
        for first in firsts:
            candidate = words[first : first + len(phrase.words)]
            if [word.word for word in candidate[:-1]] != before:
                continue
            end = candidate[-1].word
            if end.startswith(last) if phrase.prefix else end == last:
                spans.append((candidate[0].start, candidate[-1].end))
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


def _words(text: str, special: Sequence[tuple[int, int]]) -> Iterator[Word]:
    """The words of a text, and a boundary for each special token, as they are indexed."""
    at = 0
    for start, end in (*special, (len(text), len(text))):
        for word in words_of(text[at:start]):
            yield Word(word.word, at + word.start, at + word.end)
        if at <= start < end:
            yield Word(BOUNDARY, start, end)
        at = end
