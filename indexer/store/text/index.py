"""Full-text search: a table per run, FTS5 on SQLite and tsvector with GIN on PostgreSQL.

Both databases get the words that `words` splits, so that they give the same results.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection

from indexer.store.checksums import Damaged
from indexer.store.database import copy_rows
from indexer.store.text.words import BOUNDARY, MOST, Phrase, plain_words

_LAST_POSITION, _WORD_POSITIONS = 16383, 255
"""PostgreSQL's limits: the last position in a text, the most positions per word. Longer texts are
also stored as text, and phrases are searched there."""
_LONG = "!"
"""Marks such texts among their words; it is never a word itself."""
_PARTS = {"data": "id, block", "idx": "segid, term, pgno", "config": "k, v"}
"""The tables in which FTS5 keeps an index without content, and their columns."""
_SORTED = 1 << 24
"""Bytes of SQLite's index sorted in memory."""
_PROBED = 1000
"""Contexts searched in order before PostgreSQL uses the index."""


def create(connection: Connection, run_id: int) -> None:
    """Create the table of a run's texts."""
    if _postgres(connection):
        columns = "context_id bigint PRIMARY KEY, words tsvector NOT NULL, spelled text"
        connection.exec_driver_sql(f"CREATE TABLE {_name(run_id)} ({columns})")
        return
    # `ascii` splits at ASCII characters that are not letters or digits: only at our spaces.
    options = "words, content='', columnsize=0, tokenize='ascii', prefix='2 3'"
    name = _name(run_id)
    connection.exec_driver_sql(f"CREATE VIRTUAL TABLE {name} USING fts5({options})")
    # Sorting large parts in memory and merging once at the end takes half the time.
    for setting, value in (("automerge", 0), ("hashsize", _SORTED)):
        connection.exec_driver_sql(
            f"INSERT INTO {name} ({name}, rank) VALUES ('{setting}', {value})"
        )


def rows_of(
    connection: Connection, texts: Iterable[tuple[int, Sequence[str]]]
) -> list[tuple[Any, ...]]:
    """The rows `put` takes, from pairs of context id and the parts of its text between special
    tokens. Only reads the database's kind."""
    words = ((context_id, _words(parts)) for context_id, parts in texts)
    if _postgres(connection):
        return [(context_id, *_vector(split)) for context_id, split in words]
    return [(context_id, " ".join(split)) for context_id, split in words]


def put(connection: Connection, run_id: int, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of `rows_of`. Raises SQLAlchemy's DBAPIError."""
    if not rows:
        return
    if not _postgres(connection):
        statement = f"INSERT INTO {_name(run_id)} (rowid, words) VALUES (?, ?)"
        connection.exec_driver_sql(statement, list(rows))
        return
    statement = f"COPY {_name(run_id)} (context_id, words, spelled) FROM STDIN"
    copy_rows(connection, statement, rows)


def finish(connection: Connection, run_id: int) -> None:
    """Build or optimise the index, after the last `put`."""
    name = _name(run_id)
    if _postgres(connection):
        connection.exec_driver_sql(f"CREATE INDEX ix_{name} ON {name} USING gin (words)")
        connection.exec_driver_sql(f"ANALYZE {name}")
    else:
        connection.exec_driver_sql(f"INSERT INTO {name} ({name}) VALUES ('optimize')")
        # FTS5 holds a row back until the transaction, or a savepoint, asks for it.
        connection.exec_driver_sql("SAVEPOINT written")
        connection.exec_driver_sql("RELEASE written")


def digest(connection: Connection, run_id: int) -> str:
    """A hash of a run's texts as stored. It reads the whole table: 1 s for some 300 MB."""
    name = _name(run_id)
    if _postgres(connection):
        # The same in whatever order the rows are read.
        whole = "context_id::text || ':' || words::text || ':' || coalesce(spelled, '')"
        number = f"('x' || left(md5({whole}), 15))::bit(60)::bigint"
        sums = connection.exec_driver_sql(f"SELECT count(*), sum({number})::text FROM {name}")
        return " ".join(map(str, sums.one()))
    content = hashlib.blake2b(digest_size=16)
    for part, columns in _PARTS.items():
        content.update(part.encode())
        for row in connection.exec_driver_sql(f"SELECT {columns} FROM {name}_{part} ORDER BY 1, 2"):
            for value in row:
                content.update(value if isinstance(value, bytes) else repr(value).encode())
                content.update(b"\0")
    return content.hexdigest()


def check(connection: Connection, run_id: int, expected: str) -> None:
    """Raises Damaged unless `digest` gives what is expected."""
    if digest(connection, run_id) != expected:
        raise Damaged(run_id, _name(run_id), "its texts are changed")


def drop(connection: Connection, run_id: int) -> None:
    """Drop the table of a run's texts."""
    connection.exec_driver_sql(f"DROP TABLE {_name(run_id)}")


def search(
    connection: Connection, run_id: int, phrases: Sequence[Phrase], after: int, limit: int
) -> list[int]:
    """The first `limit` ids after `after` of contexts with all phrases, ascending."""
    name = _name(run_id)
    if _postgres(connection):
        # Scanning contexts in order is fastest for frequent phrases, the index for rare ones. The
        # planner misjudges the frequency of most phrases.
        first = f"SELECT * FROM {name} WHERE context_id > %(after)s ORDER BY context_id"
        ids = _find(connection, f"{first} LIMIT {_PROBED}", phrases, after, limit)
        if len(ids) == limit:
            return ids
        return _find(connection, f"SELECT * FROM {name}", phrases, after, limit)
    wanted = " AND ".join(_match(phrase) for phrase in phrases)
    rows = connection.exec_driver_sql(
        f"SELECT rowid FROM {name} WHERE {name} MATCH ? AND rowid > ? ORDER BY rowid LIMIT ?",
        (wanted, after, limit),
    )
    return [int(row[0]) for row in rows]


def _find(
    connection: Connection, source: str, phrases: Sequence[Phrase], after: int, limit: int
) -> list[int]:
    """Ids of PostgreSQL's rows of the query `source` with all phrases, after `after`, ascending."""
    multi_word = [phrase for phrase in phrases if len(phrase.words) > 1]
    long = "".join(
        f" AND (spelled IS NULL OR spelled LIKE %(p{n})s)" for n in range(len(multi_word))
    )
    rows = connection.exec_driver_sql(
        f"WITH matches AS MATERIALIZED (SELECT context_id FROM ({source}) AS searched "
        f"WHERE words @@ %(wanted)s::tsquery AND context_id > %(after)s{long}) "
        "SELECT context_id FROM matches ORDER BY context_id LIMIT %(limit)s",
        {"wanted": " & ".join(map(_tsquery, phrases)), "after": after, "limit": limit}
        | {f"p{n}": _like(phrase) for n, phrase in enumerate(multi_word)},
    )
    return [int(row[0]) for row in rows]


def _name(run_id: int) -> str:
    return f"context_words_{int(run_id)}"


def _postgres(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _words(parts: Sequence[str]) -> list[str]:
    words = plain_words(parts[0])
    for part in parts[1:]:
        words += [BOUNDARY, *plain_words(part)]
    return words


def _vector(words: Sequence[str]) -> tuple[str, str | None]:
    """The words as a tsvector literal (words need no escaping), and as text if they exceed its
    limits."""
    vector = "".join(chain.from_iterable(zip(words, _places(len(words)), strict=True)))
    most_frequent = len(words) if len(words) <= _WORD_POSITIONS else max(Counter(words).values())
    if len(words) <= _LAST_POSITION and most_frequent <= _WORD_POSITIONS:
        return vector, None
    return f"{vector}'{_LONG}':1", f" {' '.join(words)} "


@lru_cache(256)
def _places(count: int) -> list[str]:
    """The positions 1 to `count` in tsvector syntax."""
    return [f":{place} " for place in range(1, count + 1)]


def _tsquery(phrase: Phrase) -> str:
    *before, last = [f"'{word[:MOST]}'" for word in phrase.words]
    words = [*before, last + (":*" if phrase.prefix else "")]
    if len(words) == 1:
        return words[0]
    return f"({' <-> '.join(words)} | '{_LONG}' & {' & '.join(words)})"


def _like(phrase: Phrase) -> str:
    """A LIKE pattern for a phrase; words have no characters that need escaping."""
    return f"% {' '.join(word[:MOST] for word in phrase.words)}{'' if phrase.prefix else ' '}%"


def _match(phrase: Phrase) -> str:
    words = " ".join(word[:MOST] for word in phrase.words)
    return f'"{words}"' + (" *" if phrase.prefix else "")
