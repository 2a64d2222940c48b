"""Which contexts have which words: a table a run, in the full-text form that each database has.

SQLite keeps an FTS5 index without its texts, PostgreSQL a tsvector a context with a GIN index. Both
are given the words of `words`, so that they find the same. A run's table goes when the run goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from indexer.store.text.words import MOST, Phrase, plain_words

_LAST_POSITION, _MOST_PLACES = 16383, 255
"""PostgreSQL's: of a text, and of each word in it. A text that has more keeps its words as a text
beside them, in which phrases are looked for."""
_LONG = "!"
"""Stands among the words of such texts: no word is spelled so."""
_SORTED = 1 << 24
"""Bytes of SQLite's index that are sorted in memory."""
_PROBED = 1000
"""Contexts that are gone over in order before the index of words is asked."""


def create(connection: Connection, run_id: int) -> None:
    """Make the table of a run's texts."""
    if _postgres(connection):
        columns = "context_id bigint PRIMARY KEY, words tsvector NOT NULL, spelled text"
        connection.exec_driver_sql(f"CREATE TABLE {_name(run_id)} ({columns})")
        return
    # `ascii` parts words at what is neither letter nor digit and below 128: at our spaces alone.
    options = "words, content='', columnsize=0, tokenize='ascii', prefix='2 3'"
    name = _name(run_id)
    connection.exec_driver_sql(f"CREATE VIRTUAL TABLE {name} USING fts5({options})")
    # Sorted in memory in large parts which are merged once, at the end: half the time.
    for setting, value in (("automerge", 0), ("hashsize", _SORTED)):
        connection.exec_driver_sql(
            f"INSERT INTO {name} ({name}, rank) VALUES ('{setting}', {value})"
        )


def rows_of(connection: Connection, texts: Iterable[tuple[int, str]]) -> list[tuple[Any, ...]]:
    """What `put` puts in for texts; the connection is asked nothing but which database it is."""
    words = ((context_id, plain_words(text)) for context_id, text in texts)
    if _postgres(connection):
        return [(context_id, *_vector(some)) for context_id, some in words]
    return [(context_id, " ".join(some)) for context_id, some in words]


def put(connection: Connection, run_id: int, rows: Sequence[tuple[Any, ...]]) -> None:
    """Put in what `rows_of` made. Raises SQLAlchemy's DBAPIError."""
    if not rows:
        return
    if not _postgres(connection):
        statement = f"INSERT INTO {_name(run_id)} (rowid, words) VALUES (?, ?)"
        connection.exec_driver_sql(statement, list(rows))
        return
    statement = f"COPY {_name(run_id)} (context_id, words, spelled) FROM STDIN"
    driver: Any = connection.dialect.dbapi
    cursor = connection.connection.cursor()
    try:
        with cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except driver.Error as error:
        raise DBAPIError(statement, None, error) from error
    finally:
        cursor.close()


def finish(connection: Connection, run_id: int) -> None:
    """All texts are in: make them quick to search."""
    name = _name(run_id)
    if _postgres(connection):
        connection.exec_driver_sql(f"CREATE INDEX ix_{name} ON {name} USING gin (words)")
        connection.exec_driver_sql(f"ANALYZE {name}")
    else:
        connection.exec_driver_sql(f"INSERT INTO {name} ({name}) VALUES ('optimize')")


def drop(connection: Connection, run_id: int) -> None:
    """Remove the table of a run's texts."""
    connection.exec_driver_sql(f"DROP TABLE {_name(run_id)}")


def search(
    connection: Connection, run_id: int, phrases: Sequence[Phrase], after: int, limit: int
) -> list[int]:
    """Ids of contexts that have all of these, from the one behind `after` on, in their order."""
    name = _name(run_id)
    if _postgres(connection):
        # What is frequent is found soonest by going over contexts in order, what is rare by the
        # index; the planner's guess which it is would be wrong for most phrases.
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
    """Of PostgreSQL's rows of `source`, those that have all of these: a page of their ids."""
    many = [phrase for phrase in phrases if len(phrase.words) > 1]
    long = "".join(f" AND (spelled IS NULL OR spelled LIKE %(p{n})s)" for n in range(len(many)))
    rows = connection.exec_driver_sql(
        f"WITH found AS MATERIALIZED (SELECT context_id FROM ({source}) AS those "
        f"WHERE words @@ %(wanted)s::tsquery AND context_id > %(after)s{long}) "
        "SELECT context_id FROM found ORDER BY context_id LIMIT %(limit)s",
        {"wanted": " & ".join(map(_tsquery, phrases)), "after": after, "limit": limit}
        | {f"p{n}": _like(phrase) for n, phrase in enumerate(many)},
    )
    return [int(row[0]) for row in rows]


def _name(run_id: int) -> str:
    return f"context_words_{int(run_id)}"


def _postgres(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _vector(words: Sequence[str]) -> tuple[str, str | None]:
    """Words with their places, as PostgreSQL reads a tsvector: they have nothing to be escaped;
    and the words themselves where it cannot keep all places."""
    vector = "".join(chain.from_iterable(zip(words, _places(len(words)), strict=True)))
    most = len(words) if len(words) <= _MOST_PLACES else max(Counter(words).values())
    if len(words) <= _LAST_POSITION and most <= _MOST_PLACES:
        return vector, None
    return f"{vector}'{_LONG}':1", f" {' '.join(words)} "


@lru_cache(256)
def _places(count: int) -> list[str]:
    """What follows each of so many words."""
    return [f":{place} " for place in range(1, count + 1)]


def _tsquery(phrase: Phrase) -> str:
    *before, last = [f"'{word[:MOST]}'" for word in phrase.words]
    words = [*before, last + (":*" if phrase.prefix else "")]
    if len(words) == 1:
        return words[0]
    return f"({' <-> '.join(words)} | '{_LONG}' & {' & '.join(words)})"


def _like(phrase: Phrase) -> str:
    """Words have no character that means anything to LIKE."""
    return f"% {' '.join(word[:MOST] for word in phrase.words)}{'' if phrase.prefix else ' '}%"


def _match(phrase: Phrase) -> str:
    words = " ".join(word[:MOST] for word in phrase.words)
    return f'"{words}"' + (" *" if phrase.prefix else "")
