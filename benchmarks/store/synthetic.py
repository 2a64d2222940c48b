"""A large database: 25 models with the names, layers and widths of Neuroscope's, 1.1 million
neurons in all, written as a run is.

    python -m benchmarks.store.synthetic sqlite:////tmp/large.db      # 10 minutes, 11 GB

`invented` says what is as in a real run, and what is drawn at random.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from sqlalchemy import Engine

from benchmarks.results import run
from benchmarks.store import invented
from indexer.errors import NeurariumError
from indexer.measure.selection import Payload
from indexer.models.units import never_positive
from indexer.run.results import Results
from indexer.store.database import open_store
from indexer.store.writing.records import NeuronBlock
from indexer.store.writing.run import write_run

VOCABULARY = 50_257
CONTEXTS = 20_000
_BYTES = 10_000
"""Of a neuron in the database, about."""

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
"""Neuroscope's models: name, layers, neurons a layer."""

NEURONS = sum(layers * width for _, layers, width in MODELS)


def make(
    engine: Engine,
    *,
    neurons: int = NEURONS,
    contexts: int = CONTEXTS,
    vocabulary: int = VOCABULARY,
    seed: int = 0,
    say: Callable[[str], object] = lambda line: None,
) -> int:
    """Write all 25 models into an open store; how many neurons they have.

    Args:
        engine: the store.
        neurons: at least so many in all; every width is scaled alike.
        contexts: contexts of the corpus that all runs share.
        vocabulary: tokens.
        seed: the same seed draws the same values.
        say: called with a line after each model.

    Raises NeurariumError if the disk is too small (SQLite).
    """
    sizes = scaled(neurons)
    total = sum(sum(widths) for _, widths in sizes)
    _check_room(engine, total)
    rng = np.random.default_rng(seed)
    text = invented.corpus(rng, contexts, vocabulary)
    pool = invented.pool(rng, gated=False)
    tokens = invented.vocabulary(rng, vocabulary)
    done = 0
    for number, (name, widths) in enumerate(sizes):

        def facts_of(layer: int, widths: tuple[int, ...] = widths) -> invented.Facts:
            own = np.random.default_rng([seed, layer])
            return invented.facts(own, widths, layer, vocabulary, gated=False)

        results = Results(text, never_positive, facts_of)
        record = invented.run_record(name, widths, contexts, tokens, number)
        write_run(engine, record, blocks_of(rng, widths, text, pool, results), results.contexts())
        done += sum(widths)
        say(f"{name}: {done:,} of {total:,} neurons")
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:  # nothing is left for the first reader to do
            connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return done


def scaled(neurons: int) -> list[tuple[str, tuple[int, ...]]]:
    """Names and widths of the 25 models, with `neurons` or a few more in all."""
    return [
        (name, (max(1, -(-width * neurons // NEURONS)),) * layers) for name, layers, width in MODELS
    ]


def blocks_of(
    rng: np.random.Generator,
    widths: tuple[int, ...],
    text: invented.Corpus,
    pool: Payload,
    results: Results,
) -> Iterator[NeuronBlock]:
    """All neurons of a model; the scan of one layer is in memory at a time."""
    whole = invented.shape(widths, len(text.token_ids))
    for layer in range(len(widths)):
        shape = whole.slice(layer, layer + 1)
        yield from results.neurons(invented.scan(rng, shape, text, pool))


def _check_room(engine: Engine, neurons: int) -> None:
    """Refuse to fill the disk. Where PostgreSQL keeps its files is not known."""
    if engine.dialect.name != "sqlite" or not engine.url.database:
        return
    needed = neurons * _BYTES
    free = shutil.disk_usage(Path(engine.url.database).resolve().parent).free
    if needed > free:
        raise NeurariumError(
            f"{neurons:,} neurons need about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are "
            "free: ask for fewer with --neurons."
        )


def main(
    database: Annotated[
        str, typer.Argument(help="sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME.")
    ],
    neurons: Annotated[int, typer.Option(min=1, help="At least so many; widths are scaled.")] = (
        NEURONS
    ),
    contexts: Annotated[int, typer.Option(min=64, help="Contexts of the corpus.")] = CONTEXTS,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
) -> None:
    """Write a large database of invented runs."""
    engine = open_store(database, create=True)
    make(engine, neurons=neurons, contexts=contexts, seed=seed, say=typer.echo)
    engine.dispose()


if __name__ == "__main__":
    run(main)
