"""Pure: what is typed to search texts → the phrases that a text must have.

Words in any order, "words in quotes" as they follow one another, and `begin*` for any word that
begins so. Letters and digits count alone, and capitals as small: `foo_Bar` is the phrase “foo bar”.
"""

from __future__ import annotations

import re

from indexer.store.text.words import Phrase, words_of

MOST_WORDS = 32
"""More of them are no search but a text."""

_PIECE = re.compile(r'"(?P<quoted>[^"]*)"(?P<after>\*?)|(?P<open>"[^"]*$)|(?P<plain>[^\s"]+)')


class TextError(ValueError):
    """What was typed cannot be searched for: in one sentence, with what to do."""


def parse(text: str) -> list[Phrase]:
    """All that a text must have. Raises TextError."""
    phrases: list[Phrase] = []
    for piece in _PIECE.finditer(text):
        if piece["open"]:
            raise TextError(
                f"The quotation mark at character {piece.start() + 1} is not closed: close it, or "
                "leave it out."
            )
        written = piece["plain"] or piece["quoted"] or ""
        words = tuple(word.word for word in words_of(written))
        if words:
            prefix = written.endswith("*") or bool(piece["after"])
            phrases.append(Phrase(words, prefix))
    count = sum(len(phrase.words) for phrase in phrases)
    if not count:
        raise TextError(
            'There is no word in it: write words, "a phrase" in quotation marks, or the beginning '
            "of a word with a star, such as neuro*."
        )
    if count > MOST_WORDS:
        raise TextError(f"It has {count} words: {MOST_WORDS} can be searched for at once.")
    return phrases


def found_in(text: str, phrases: list[Phrase]) -> list[tuple[int, int]]:
    """Where a text has them: (start, end) of each find, none inside another, in order."""
    words = list(words_of(text))
    places: dict[str, list[int]] = {}
    for at, word in enumerate(words):
        places.setdefault(word.word, []).append(at)
    spans = []
    for phrase in phrases:
        *before, last = phrase.words
        if before:
            firsts = places.get(before[0], [])
        elif phrase.prefix:
            firsts = [at for word, some in places.items() if word.startswith(last) for at in some]
        else:
            firsts = places.get(last, [])
        for first in firsts:
            mine = words[first : first + len(phrase.words)]
            if len(mine) < len(phrase.words) or [word.word for word in mine[:-1]] != before:
                continue
            end = mine[-1].word
            if end.startswith(last) if phrase.prefix else end == last:
                spans.append((mine[0].start, mine[-1].end))
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return joined
