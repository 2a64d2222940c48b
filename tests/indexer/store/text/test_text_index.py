"""Full-text search in both databases: phrases in long texts, and the plans for rare words."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from app.search.words import matches, parse
from indexer.store.text import index as text_index

RUN = 9_999_999
"""An unused run id."""
ENDLESS = "a " * 300 + "end here a tail"
"""Has a word more often than PostgreSQL stores positions per word."""
HUGE = " ".join(f"w{n}" for n in range(17_000)) + " the last words of all"
"""Has more words than PostgreSQL has positions."""
DIGITS = " ".join(random.Random(3).choices("0123456789", k=4_000))


SPECIAL = "<|cat|>"


@contextmanager
def indexed(engine: Engine, texts: dict[int, str]) -> Iterator[Connection]:
    """A connection with these texts indexed."""
    with engine.connect() as connection:
        text_index.create(connection, RUN)
        split = [(one, text.split(SPECIAL)) for one, text in sorted(texts.items())]
        rows = text_index.rows_of(connection, split)
        text_index.put(connection, RUN, rows)
        text_index.finish(connection, RUN)
        yield connection
        connection.rollback()


def test_phrases_are_found_in_long_texts(any_filled: Engine) -> None:
    """Phrases are found anywhere in long texts, and nothing else is."""
    texts = {1: ENDLESS, 2: HUGE, 3: DIGITS, 4: "a tail of here", 5: "here a", 6: "last w9 words"}
    asked = ['"here a"', '"a tail"', '"a a"', '"tail a"', '"end here a tail"', '"end a"']
    asked += ['"the last"', '"w16999 the"', '"w5 w6"', '"w6 w5"', '"last words"', '"words of al"*']
    asked += [f'"{one} {other}"' for one in "0123" for other in "0123"] + ['"8 3 1 4 1"', "tail"]
    asked += ['"a tail" "here a"', '"a tail" end', '"w16998 w16999 the la"*', "w16999 all", "w9*"]
    with indexed(any_filled, texts) as connection:
        for q in asked:
            phrases = parse(q)
            wanted = [
                one
                for one, text in texts.items()
                if all(matches(text, [phrase]) for phrase in phrases)
            ]
            assert text_index.search(connection, RUN, phrases, -1, 10) == wanted, q


def test_what_is_written_has_its_digest_at_once(any_filled: Engine) -> None:
    """In the transaction that wrote it, as whoever reads it later has it."""
    with any_filled.begin() as connection:
        text_index.create(connection, RUN)
        text_index.put(connection, RUN, text_index.rows_of(connection, [(1, ["a cat"])]))
        text_index.finish(connection, RUN)
        digest = text_index.digest(connection, RUN)
    with any_filled.begin() as connection:
        assert text_index.digest(connection, RUN) == digest
        text_index.drop(connection, RUN)


def test_a_special_token_is_no_text_and_ends_phrases(any_filled: Engine) -> None:
    """Neither its name is found nor a phrase over it, also in a text of too many words."""
    texts = {
        1: f"the wind{SPECIAL}blew on",
        2: f"{SPECIAL}a cat{SPECIAL}",
        3: "the wind blew",
        4: f"{ENDLESS}{SPECIAL}the wind{SPECIAL}blew",
    }
    asked = ["cat", "ca*", '"wind blew"', "wind blew", '"the wind"', '"wind bl"*', "blew on"]
    with indexed(any_filled, texts) as connection:
        for q in asked:
            phrases = parse(q)
            wanted = []
            for one, text in texts.items():
                special = [found.span() for found in re.finditer(re.escape(SPECIAL), text)]
                if all(matches(text, [phrase], special) for phrase in phrases):
                    wanted.append(one)
            assert text_index.search(connection, RUN, phrases, -1, 10) == wanted, q
            assert wanted == {"cat": [2], "ca*": [2], '"wind blew"': [3]}.get(q, wanted), q


def test_pages_follow_one_another(any_filled: Engine) -> None:
    """Frequent and rare words, beyond the contexts searched in order first."""
    choose = random.Random(1)
    words = [f"w{n}" for n in range(50)]
    texts = {3 * n: " ".join(choose.choices(words, k=6)) for n in range(2_600)}
    texts[7_500] += " rare"
    with indexed(any_filled, texts) as connection:
        for q in ("w1", "w1 w2", '"w3 w4"', "w1 w2 w3 w4", "rare", "absent", "w1*", "w4 rare"):
            phrases = parse(q)
            wanted = [
                one
                for one, text in texts.items()
                if all(matches(text, [phrase]) for phrase in phrases)
            ]
            ids: list[int] = []
            while page := text_index.search(connection, RUN, phrases, ids[-1] if ids else -1, 7):
                ids += page
            assert ids == wanted, q


def test_postgres_asks_the_index_for_what_is_rare(postgres_engine: Engine) -> None:
    """PostgreSQL's plans never read all contexts, and scan only a limited number in order."""
    choose = random.Random(2)
    words = [f"w{n}" for n in range(2_000)]
    weights = [1 / (n + 1) for n in range(2_000)]
    texts = {n: " ".join(choose.choices(words, weights, k=60)) for n in range(6_000)}
    with indexed(postgres_engine, texts) as connection:
        for q in ("w1999", "absent", "absent*", '"w900 w901"', "w1200 w1300"):
            sent: list[tuple[str, Any]] = []

            def note(*event: Any, sent: list[tuple[str, Any]] = sent) -> None:
                sent.append((event[2], event[3]))

            event.listen(connection, "before_cursor_execute", note)
            text_index.search(connection, RUN, parse(q), -1, 20)
            event.remove(connection, "before_cursor_execute", note)
            assert len(sent) == 2, q
            plans = []
            for statement, parameters in sent:
                explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
                (row,) = connection.exec_driver_sql(explain, parameters)
                plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
                plans.append(list(walked(plan[0]["Plan"])))
            assert all(node["Actual Rows"] <= 1000 for node in plans[0]), q
            assert "Bitmap Index Scan" in {node["Node Type"] for node in plans[1]}, q
            assert not any("Seq Scan" in node["Node Type"] for node in plans[1]), q


def walked(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All nodes of a plan."""
    yield node
    for child in node.get("Plans", []):
        yield from walked(child)


@pytest.fixture
def postgres_engine(postgres_filled: str) -> Iterator[Engine]:
    """An engine on the real PostgreSQL."""
    from sqlalchemy import create_engine

    engine = create_engine(postgres_filled)
    yield engine
    engine.dispose()
