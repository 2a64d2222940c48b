"""A database as large as Neuroscope: 25 models, 1.1 million neurons, in the store's own format.

    python -m benchmarks.store.synthetic --database sqlite:////tmp/large.db

What is real: the tables, their indexes and the packed formats (those of `indexer.store`); the
models' names, layers and widths; one row a neuron in `neurons`, `neuron_arrays` and `examples`,
each under its own key; the number of examples of each kind; contexts and the
vocabulary, shared as real runs share them; every number that a page follows: a list of neurons or
contexts names only such as there are, a neuron's maximum is its best example's (to within 0.1%).

What is drawn: all the values. No model has computed them. Scalars are a neuron's own; its packed
examples are one of `POOL` that were made first, its packed arrays one of `LAYER_POOL` of its layer.
So the database compresses better as a whole than a real one, which no part of the server does;
rows, bytes and index entries are as many. A neuron has about as many bytes as in a real run.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from sqlalchemy import (
    Connection,
    Engine,
    update,
)

from benchmarks.store import invented
from benchmarks.store.invented import Contexts, PackedArrays, PackedExamples
from indexer.errors import NeurariumError
from indexer.store import schema
from indexer.store.database import changing, open_store
from indexer.store.packing.codec import LAYER_ARRAYS, pack_arrays, pack_token_ids
from indexer.store.text import index as text_index
from indexer.store.writing.bulk import insert_rows
from indexer.store.writing.postings import Postings
from indexer.store.writing.records import RunRecord
from indexer.store.writing.run import text_of, write_columns, write_run, write_tokens

POOL = 512
LAYER_POOL = 64
VOCABULARY = 50_257
CONTEXTS = 20_000
CORPUS = 1_000_000
"""Contexts the invented scan has gone over; `CONTEXTS` of them are somebody's example."""

_TOKENS = {
    "promoted": invented.LOGIT_EFFECTS,
    "suppressed": invented.LOGIT_EFFECTS,
    "in": invented.INPUT_TOKENS,
}
"""Tokens that a neuron has to do with, by role."""
_ROWS = 2_000  # neurons at a time
_MADE = datetime(2026, 1, 1, tzinfo=UTC)
_OVERHEAD = 1.3  # of the bytes packed: scalars, keys and indexes; measured

MODELS: tuple[tuple[str, int, int], ...] = (
    ("solu-1l", 1, 2048),
    ("solu-2l", 2, 2048),
    ("solu-3l", 3, 2048),
    ("solu-4l", 4, 2048),
    ("solu-6l", 6, 3072),
    ("solu-8l", 8, 4096),
    ("solu-10l", 10, 5120),
    ("solu-12l", 12, 6144),
    ("solu-1l-pile", 1, 4096),
    ("solu-2l-pile", 2, 2944),
    ("solu-4l-pile", 4, 2048),
    ("solu-6l-pile", 6, 3072),
    ("solu-8l-pile", 8, 4096),
    ("solu-10l-pile", 10, 5120),
    ("gelu-1l", 1, 2048),
    ("gelu-2l", 2, 2048),
    ("gelu-3l", 3, 2048),
    ("gelu-4l", 4, 2048),
    ("gpt2-small", 12, 3072),
    ("gpt2-medium", 24, 4096),
    ("gpt2-large", 36, 5120),
    ("gpt2-xl", 48, 6400),
    ("pythia-70m", 6, 2048),
    ("pythia-160m", 12, 3072),
    ("pythia-350m", 24, 4096),
)
"""Neuroscope's models: name, layers, neurons a layer; 1,111,808 in all."""

NEURONS = sum(layers * width for _, layers, width in MODELS)

Array = np.ndarray[Any, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Shared:
    """What all runs have in common."""

    vocabulary: list[bytes]
    contexts: Contexts
    texts: list[tuple[int, str]]
    pool: list[PackedExamples]


def make(
    engine: Engine,
    *,
    neurons: int = NEURONS,
    window: int | None = None,
    contexts: int = CONTEXTS,
    pool: int = POOL,
    vocabulary: int = VOCABULARY,
    seed: int = 0,
    say: Say = lambda line: None,
) -> int:
    """Write all 25 models into a store and return how many neurons they have.

    Args:
        engine: an open store.
        neurons: how many there should be at least: all widths are scaled alike.
        window: positions kept of an example; None: the whole context of 128.
        contexts: contexts a run that are examples of some neuron.
        pool: different lists of examples.
        vocabulary: tokens.
        seed: of everything that is drawn: the same seed gives the same database.
        say: is told how far it has come.

    Raises NeurariumError where the disk has no room for it.
    """
    rng = np.random.default_rng(seed)
    some = invented.contexts(rng, contexts, max(CORPUS, contexts), vocabulary)
    spelled = invented.vocabulary(rng, vocabulary)
    texts = [
        (context_id, text_of(spelled, tokens[1:]))
        for context_id, tokens in zip(some.ids.tolist(), some.token_ids, strict=True)
    ]
    shared = Shared(
        vocabulary=spelled,
        contexts=some,
        texts=texts,
        pool=[invented.examples(rng, some, window) for _ in range(pool)],
    )
    sizes = scaled(neurons)
    total = sum(sum(widths) for _, widths in sizes)
    _check_room(engine, total, shared)
    done, began = 0, time.perf_counter()
    for number, (name, widths) in enumerate(sizes):
        _write_run(engine, rng, number, name, widths, shared)
        done += sum(widths)
        rate = done / (time.perf_counter() - began)
        say(f"{name}: {done:,} of {total:,} neurons, {rate:,.0f} a second")
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:  # nothing is left for the first reader to do
            connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return done


def scaled(neurons: int) -> list[tuple[str, tuple[int, ...]]]:
    """Names and widths of the 25 models, made smaller or larger so as to have `neurons` in all."""
    return [
        (name, (max(1, -(-width * neurons // NEURONS)),) * layers) for name, layers, width in MODELS
    ]


def _check_room(engine: Engine, neurons: int, shared: Shared) -> None:
    """Refuse to fill the disk. Where PostgreSQL keeps its files is not known here."""
    if engine.dialect.name != "sqlite" or not engine.url.database:
        return
    packed = np.mean([len(one.packed) for one in shared.pool])
    arrays = 1_000  # the packed arrays of one neuron
    needed = neurons * (packed + arrays) * _OVERHEAD
    free = shutil.disk_usage(Path(engine.url.database).resolve().parent).free
    if needed > free:
        raise NeurariumError(
            f"{neurons:,} neurons need about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are "
            "free: ask for fewer with --neurons, or for less of each example with --window."
        )


def _write_run(
    engine: Engine,
    rng: np.random.Generator,
    number: int,
    name: str,
    widths: tuple[int, ...],
    shared: Shared,
) -> None:
    """One model: its run, its layers one transaction each, its contexts; then it is ready."""
    runs = schema.runs
    run_id = write_run(engine, _record(number, name, widths, shared), [], [])
    with changing(engine) as connection:  # nothing is in it yet: nobody is to see it
        connection.execute(update(runs).where(runs.c.id == run_id).values(ready=False))
    offsets = list(accumulate(widths, initial=0))
    for layer, width in enumerate(widths):
        arrays = [
            invented.arrays(rng, widths, layer, len(shared.vocabulary))
            for _ in range(min(LAYER_POOL, width))
        ]
        with changing(engine) as connection:
            _write_layer(connection, rng, run_id, layer, offsets[layer], width, shared.pool, arrays)
    digest = hashlib.sha256(f"{name} {widths} {len(shared.contexts.ids)}".encode()).hexdigest()
    postings = _postings(rng, sum(widths), shared)
    with closing(postings), changing(engine) as connection:
        rows = list(_context_rows(run_id, shared, postings))
        insert_rows(connection, schema.contexts, rows)
        text_index.drop(connection, run_id)  # that of no contexts, which came with the run
        text_index.create(connection, run_id)
        text_index.put(connection, run_id, text_index.rows_of(connection, shared.texts))
        text_index.finish(connection, run_id)
        write_tokens(connection, run_id, postings)
        ready = update(runs).where(runs.c.id == run_id).values(content_hash=digest, ready=True)
        connection.execute(ready)


def _record(number: int, name: str, widths: tuple[int, ...], shared: Shared) -> RunRecord:
    return RunRecord(
        model=name,
        model_id=f"synthetic/{name}",
        revision=None,
        hook_point="mlp.hook_post",
        is_default_hook_point=True,
        corpus="synthetic",
        dtype="float32",
        ctx_len=invented.CTX_LEN,
        contexts=CORPUS,
        tokens=CORPUS * (invented.CTX_LEN - 1),
        sample_contexts=invented.SAMPLE_CONTEXTS,
        sample_positions=invented.SAMPLE_POSITIONS,
        sample_identity="invented",
        widths=widths,
        sources=invented.SOURCES,
        vocabulary=shared.vocabulary,
        provenance={"note": "invented by benchmarks.store.synthetic: no model computed this"},
        created_at=_MADE + timedelta(minutes=number),
    )


def _write_layer(
    connection: Connection,
    rng: np.random.Generator,
    run_id: int,
    layer: int,
    offset: int,
    width: int,
    pool: Sequence[PackedExamples],
    arrays: Sequence[PackedArrays],
) -> None:
    parts: dict[str, list[Array]] = {name: [] for name in schema.COLUMNS}
    maxima, densities = [], []
    for first in range(0, width, _ROWS):
        count = min(_ROWS, width - first)
        key = schema.neuron_key(run_id, offset + first)
        mine = [pool[index] for index in rng.integers(0, len(pool), count)]
        facts = [arrays[index] for index in rng.integers(0, len(arrays), count)]
        scalars = _scalars(rng, mine, facts)
        places = zip(
            range(key, key + count),
            [run_id] * count,
            [layer] * count,
            range(first, first + count),
            strict=True,
        )
        values = zip(*(scalars[column.name] for column in _scalar_columns()), strict=True)
        rows = [(*place, *mine_of) for place, mine_of in zip(places, values, strict=True)]
        insert_rows(connection, schema.neurons, rows)
        packed = [(key + index, one.packed) for index, one in enumerate(facts)]
        insert_rows(connection, schema.neuron_arrays, packed)
        kept = [(key + index, 0, one.packed) for index, one in enumerate(mine)]
        insert_rows(connection, schema.examples, kept)
        for name, some in parts.items():
            some.append(np.array(scalars[name], np.float64))
        maxima += scalars["max"]
        densities += scalars["density"]
    columns = {name: np.concatenate(some) for name, some in parts.items()}
    write_columns(connection, run_id, layer, columns)
    levels = np.linspace(0, 1, 21)
    quantiles = {
        "max_quantiles": np.quantile(maxima, levels),
        "density_quantiles": np.quantile(densities, levels),
    }
    row = {
        "run_id": run_id,
        "layer": layer,
        "neurons": width,
        "dead": 0,
        "max": max(maxima),
        "mean_max": float(np.mean(maxima)),
        "mean_density": float(np.mean(densities)),
        "arrays": pack_arrays(quantiles, LAYER_ARRAYS),
    }
    insert_rows(connection, schema.layers, [tuple(row[column.name] for column in schema.layers.c)])


def _scalar_columns() -> list[Any]:
    return [c for c in schema.neurons.c if c.name not in ("id", "run_id", "layer", "neuron")]


def _scalars(
    rng: np.random.Generator, mine: Sequence[PackedExamples], facts: Sequence[PackedArrays]
) -> dict[str, list[Any]]:
    """The columns of `neurons`, each neuron's own, in agreement with what else it shows."""
    count = len(mine)
    # Up to 0.1% more than the best example, so that no two neurons of a layer tie.
    more = 1 + rng.uniform(0, 1e-3, (2, count))
    peaks = np.array([one.peak for one in mine]) * more[0]
    density = rng.beta(1.0, 6.0, count)
    drawn: dict[str, Array] = {
        "max": peaks,
        "min": np.array([one.trough for one in mine]) * more[1],
        "mean": rng.normal(0.0, 0.1, count),
        "std": rng.gamma(4.0, 0.1, count),
        "skewness": rng.gamma(2.0, 1.5, count),
        "kurtosis": rng.gamma(1.5, 10.0, count),
        "density": density,
        "density_over_tenth": density * rng.uniform(0.1, 0.9, count),
        "tenth": peaks / 10,
        "effect_kurtosis": rng.gamma(1.0, 1.0, count),
        "in_out_cosine": rng.normal(0.0, 0.2, count).clip(-1, 1),
    }
    return {
        **{name: values.tolist() for name, values in drawn.items()},
        "dead": [False] * count,
        "peak_token_id": [one.peak_token_id for one in mine],
        "promoted_token_id": [one.promoted_token_id for one in facts],
        "gate_out_cosine": [None] * count,
        "top_source": rng.integers(-1, len(invented.SOURCES), count).tolist(),
    }


def _postings(rng: np.random.Generator, neurons: int, shared: Shared) -> Postings:
    """As many examples and tokens as neurons have, shared out among contexts and tokens."""
    postings = Postings(CORPUS, len(shared.vocabulary))
    for first in range(0, neurons, 1 << 14):
        some = np.arange(first, min(neurons, first + (1 << 14)))
        for kind, name in enumerate(("top", "bottom")):
            owner = np.repeat(some, invented.EXAMPLES[name])
            postings.add_places(
                rng.choice(shared.contexts.ids, len(owner)),
                neuron=owner,
                kind=np.full(len(owner), kind),
                position=rng.integers(1, invented.CTX_LEN, len(owner)),
                value=(1 - 2 * kind) * rng.gamma(4.0, 0.5, len(owner)),
            )
        for role, count in _TOKENS.items():
            owner = np.repeat(some, count)
            values = (-1 if role == "suppressed" else 1) * rng.gamma(4.0, 0.1, len(owner))
            tokens = rng.integers(0, len(shared.vocabulary), len(owner))
            postings.add_tokens(role, tokens, owner, values)
    return postings


def _context_rows(run_id: int, shared: Shared, postings: Postings) -> Iterator[tuple[Any, ...]]:
    """A run's contexts, with the neurons whose examples they are."""
    some = shared.contexts
    for first in range(0, len(some.ids), _ROWS):
        mine = slice(first, first + _ROWS)
        ids, token_ids = some.ids[mine].tolist(), some.token_ids[mine]
        named = postings.contexts(ids, list(token_ids))
        rows = zip(ids, some.source_index[mine].tolist(), token_ids, named, strict=True)
        for context_id, source, tokens, neurons in rows:
            document = context_id // 4
            yield (run_id, context_id, document, source, 1, pack_token_ids(tokens), neurons)


def main(
    database: Annotated[
        str, typer.Option(help="sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME.")
    ],
    neurons: Annotated[
        int, typer.Option(min=1, help="At least so many in all: widths are scaled.")
    ] = NEURONS,
    window: Annotated[
        int | None,
        typer.Option(
            min=1, help="Positions kept of an example. Default: the whole context of 128."
        ),
    ] = None,
    contexts: Annotated[int, typer.Option(min=64, help="Contexts kept a run.")] = CONTEXTS,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
) -> None:
    """Write a synthetic database of 25 models: 1.1 million neurons, about 12 GB."""
    out = Console(highlight=False)
    began = time.perf_counter()
    try:
        engine = open_store(database, create=True)
        made = make(
            engine, neurons=neurons, window=window, contexts=contexts, seed=seed, say=out.print
        )
        engine.dispose()
    except NeurariumError as error:
        out.print(f"[bold red]Error:[/] {error}", soft_wrap=True)
        raise typer.Exit(2) from None
    out.print(f"{made:,} neurons in {time.perf_counter() - began:.0f} s.")


if __name__ == "__main__":
    typer.run(main)
