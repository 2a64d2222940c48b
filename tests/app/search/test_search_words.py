"""Words and phrases: where they stand in a text, and that every database finds them there."""

from __future__ import annotations

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from app.search.words import TextError, matches, parse
from indexer.store.text import index as text_index
from indexer.store.text.words import MOST, Phrase, plain_words, words_of

WORDS = st.text('ab1é \n_-."*İ東の\u0301', max_size=40)


@given(WORDS)
def test_words_stand_where_they_say(some: str) -> None:
    """In order, none in another, and nothing that a database would part once more."""
    end = 0
    for word in words_of(some):
        assert end <= word.start < word.end <= len(some)
        end = word.end
        assert word.word == word.word.lower()[:MOST]
        assert not re.search(r"[\s\x00-\x2f\x3a-\x60\x7b-\x7f]", word.word)


@given(st.one_of(WORDS, st.text(st.characters(max_codepoint=127)), st.text()))
def test_words_without_places_are_the_same(some: str) -> None:
    """Of ASCII they are found in another way."""
    assert plain_words(some) == [word.word for word in words_of(some)]


@given(WORDS, WORDS)
def test_a_text_has_what_is_found_in_it(some: str, q: str) -> None:
    """Each find begins and ends with a word; a phrase is found exactly where it stands."""
    try:
        phrases = parse(q)
    except TextError:
        return
    spans = matches(some, phrases)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    for start, end in spans:
        assert list(words_of(some[start:end]))


@given(st.lists(st.text("abé東 _İ.", max_size=30), min_size=1, max_size=6), WORDS)
def test_both_databases_find_the_same(texts: list[str], q: str) -> None:
    """What FTS5 finds among texts is what finding by hand does: as PostgreSQL is asked, word by
    word (the routes' test asks PostgreSQL itself)."""
    import sqlalchemy

    try:
        phrases = parse(q)
    except TextError:
        return
    split = [(number, [some]) for number, some in enumerate(texts)]
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        text_index.create(connection, 1)
        text_index.put(connection, 1, text_index.rows_of(connection, split))
        text_index.finish(connection, 1)
        found = text_index.search(connection, 1, phrases, -1, 100)
    engine.dispose()
    wanted = [
        number
        for number, some in enumerate(texts)
        if all(matches(some, [phrase]) for phrase in phrases)
    ]
    assert found == wanted


def test_a_long_text_is_found_to_its_end(any_filled: Engine) -> None:
    """Beyond what PostgreSQL counts positions for, words are found still."""
    words = [f"w{number}" for number in range(20_000)]
    with any_filled.connect() as connection:
        text_index.create(connection, 999)
        texts = [(5, [" ".join([*words, "x" * 5_000])]), (6, ["w1 w0"])]
        text_index.put(connection, 999, text_index.rows_of(connection, texts))
        text_index.finish(connection, 999)
        for phrase, wanted in (
            (Phrase(("w19999",)), [5]),
            (Phrase(("w0", "w1")), [5]),
            (Phrase(("w1", "w0")), [6]),
            (Phrase(("x" * 5_000,)), [5]),
            (Phrase(("w1",), prefix=True), [5, 6]),
        ):
            assert text_index.search(connection, 999, [phrase], -1, 10) == wanted
        text_index.drop(connection, 999)
        connection.rollback()
