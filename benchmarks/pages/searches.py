"""What is asked of a server's searches: addresses drawn from what is in its store."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection, select

from app.reading.vocabulary import text_of
from app.web import urls
from benchmarks.pages.load import Case
from indexer.store import schema
from indexer.store.database import open_store
from indexer.store.packing.codec import unpack_token_ids
from indexer.store.text.words import words_of

SEARCH_MS, LISTING_MS = 50.0, 20.0
"""The targets: 95% of answers come within so long."""
TOKEN, WORDS, PHRASE, BEGIN = "neurons of a token", "words", "phrase", "beginning of a word"
CONTEXT, ONE, SOME = "neurons of a context", "one number", "several numbers"
COMPLETION, COMPARE = "tokens that begin so", "two neurons compared"
SEARCHES = (TOKEN, COMPLETION, WORDS, PHRASE, BEGIN, CONTEXT, ONE, SOME, COMPARE)
LAYER, MODEL, LIST = "layer's page", "model's page", "list of 20 neurons"
LISTINGS = (LAYER, MODEL, LIST)
_EACH = 400
"""Addresses of each kind."""
_LISTED = 20
_STATISTICS = (
    *("max", "min", "mean", "std", "skewness", "kurtosis", "density", "density_over_tenth"),
    *("effect_kurtosis", "in_out_cosine"),
)


def cases(here: str, url: str, seed: int) -> list[Case]:
    """Pages of every kind of search and of listing, in random order, of models as often as they
    have neurons."""
    rng = random.Random(seed)
    engine = open_store(url, create=False)
    runs = schema.runs
    found: dict[str, list[str]] = {name: [] for name in (*SEARCHES, *LISTINGS)}
    with engine.connect() as connection:
        rows = connection.execute(select(runs).where(runs.c.ready)).all()
        chosen = rng.choices(rows, [sum(row.widths) for row in rows], k=_EACH)
        kept = {row.id: _contexts(connection, row.id, rng) for row in rows}
        for run in chosen:
            context_id, words = _some_words(connection, run, rng.choice(kept[run.id]))
            model, layer = run.model, rng.randrange(len(run.widths))
            one, other, third = rng.sample(_STATISTICS, 3)
            way = rng.choice("<>")
            place = rng.randrange(max(1, len(words) - 1))
            begin = rng.choice(words)[:3]
            found[TOKEN].append(
                urls.search(model, token_id=rng.randrange(_tokens(connection, run)))
            )
            found[WORDS].append(
                urls.search(model, text=" ".join(rng.sample(words, min(2, len(words)))))
            )
            completed = f"{urls.api_tokens(model)}?{urlencode({'prefix': begin[:2]})}"
            found[COMPLETION].append(completed)
            found[PHRASE].append(urls.search(model, text=f'"{" ".join(words[place : place + 2])}"'))
            found[BEGIN].append(urls.search(model, text=f"{begin}*"))
            found[CONTEXT].append(urls.context_neurons(model, context_id))
            found[ONE].append(urls.search_numbers(model, q=f"{one}{way}{rng.gauss(0.2, 0.5):.3f}"))
            several = f"{one}>{rng.gauss(0, 0.3):.2f} {other}<{rng.gauss(1, 0.5):.2f} sort:-{third}"
            found[SOME].append(urls.search_numbers(model, q=several))
            found[COMPARE].append(urls.compare(*_neurons(rng, run, 2)))
            found[LAYER].append(urls.layer(model, layer, sort=rng.choice(schema.SORTABLE)))
            found[MODEL].append(urls.model(model))
            found[LIST].append(urls.neuron_list(",".join(_neurons(rng, run, _LISTED))))
    engine.dispose()
    accepted = {"Accept-Encoding": "zstd"}
    return [Case(name, here, paths, accepted) for name, paths in found.items()]


def _neurons(rng: random.Random, run: Any, count: int) -> list[str]:
    """Some neurons of a run, as an address names them."""
    layers = rng.choices(range(len(run.widths)), run.widths, k=count)
    return [urls.named(run.model, layer, rng.randrange(run.widths[layer])) for layer in layers]


def _contexts(connection: Connection, run_id: int, rng: random.Random) -> list[int]:
    table = schema.contexts
    ids = connection.scalars(select(table.c.context_id).where(table.c.run_id == run_id)).all()
    return rng.sample(list(ids), min(len(ids), _EACH))


def _tokens(connection: Connection, run: Any) -> int:
    """How many tokens a run's vocabulary has."""
    table = schema.vocabulary
    last = (
        select(table.c.token_id)
        .where(table.c.vocabulary_id == run.vocabulary_id)
        .order_by(table.c.token_id.desc())
        .limit(1)
    )
    return int(connection.execute(last).scalar_one()) + 1


def _some_words(connection: Connection, run: Any, context_id: int) -> tuple[int, Sequence[str]]:
    table = schema.contexts
    row = connection.execute(
        select(table).where(table.c.run_id == run.id, table.c.context_id == context_id)
    ).one()
    token_ids = unpack_token_ids(bytes(row.token_ids))[row.included_from :].tolist()
    words = [word.word for word in words_of(text_of(connection, run.vocabulary_id, token_ids))]
    return context_id, words or ["nothing"]
