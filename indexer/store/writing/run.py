"""Writes a run in one transaction, so that the store has all of it or nothing.

Neurons come in blocks. While one block is inserted, others are compressed and hashed on threads.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection, Engine, Integer, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from indexer.store import schema
from indexer.store.checksums import cover, vocabulary_identity
from indexer.store.database import changing
from indexer.store.packing import layout
from indexer.store.packing.codec import (
    LATER_ARRAYS,
    LAYER_ARRAYS,
    NEURON_ARRAYS,
    Packer,
    pack_arrays,
    pack_counts,
    pack_token_ids,
)
from indexer.store.places import Places
from indexer.store.text import index as text_index
from indexer.store.writing.ahead import ahead, mapped_ahead
from indexer.store.writing.bulk import insert_rows
from indexer.store.writing.content import SCALARS, ContentHash, scalar_bytes
from indexer.store.writing.heads import write_heads
from indexer.store.writing.postings import Postings
from indexer.store.writing.records import (
    ContextRecord,
    HeadRecords,
    NeuronBlock,
    RunRecord,
    plain,
)

_ROWS = 500  # per insert; bounds memory
_PACKERS = max(1, min(4, (os.cpu_count() or 1) - 1))  # inserting needs one core

_ELSEWHERE = ("vocabulary", "widths", "sources", "units", "token_counts", "source_contexts")
"""Fields of a `RunRecord` that are no plain columns of `runs`."""

Array = np.ndarray[Any, Any]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Packed:
    """A block ready to be written, with the bytes of each neuron."""

    block: NeuronBlock
    hashed: list[bytes]
    """Canonical bytes for the content hash."""
    arrays: list[bytes]
    """`neuron_arrays.packed` of each neuron."""
    lists: list[bytes]
    """`examples.packed` of each neuron."""


def write_run(
    engine: Engine,
    run: RunRecord,
    blocks: Iterable[NeuronBlock],
    contexts: Iterable[ContextRecord],
    heads: HeadRecords | Callable[[], HeadRecords] | None = None,
) -> int:
    """Write a run and return its id.

    Args:
        engine: an open store.
        run: the run's metadata.
        blocks: all its neurons in order of (layer, neuron).
        contexts: all contexts of its examples in order of id, read after all neurons.
        heads: what else is stored of its units, if they are attention heads; a function is called
            after all contexts.

    On an error, of the database or of the iterables, nothing is written.
    """
    content = ContentHash(
        run, vocabulary_identity(run.vocabulary), (run.token_counts, run.source_contexts)
    )
    postings = Postings(run.contexts, len(run.vocabulary))
    with closing(postings), changing(engine) as connection, closing(ahead(blocks)) as read:
        run_id = _insert_run(connection, run)
        places = Places(run.widths)
        packed_blocks = _hashed(content, mapped_ahead(pack, read, _PACKERS))
        for layer, group in itertools.groupby(packed_blocks, key=lambda packed: packed.block.layer):
            _write_layer(connection, run_id, layer, places.index(layer, 0), group, postings)
        last_context = _write_contexts(connection, run_id, run, contexts, content, postings)
        last_token = write_tokens(connection, run_id, postings)
        if heads is not None:
            records = heads() if callable(heads) else heads
            content.add_heads(write_heads(connection, run_id, records))
        finish_run(
            connection,
            run_id,
            content_hash=content.hexdigest(),
            last_context=last_context,
            last_token=last_token,
            text_digest=text_index.digest(connection, run_id),
            ready=True,
        )
    return run_id


def finish_run(connection: Connection, run_id: int, **values: Any) -> None:
    """Set values of a run's row, and then its checksum."""
    table, whole = schema.runs, cover(schema.runs)
    this = update(table).where(table.c.id == run_id)
    connection.execute(this.values(**values))
    row = connection.execute(select(*whole.columns).where(table.c.id == run_id)).one()
    connection.execute(this.values(checksum=whole.of(row)))


def _insert_run(connection: Connection, run: RunRecord) -> int:
    fields = {
        name: getattr(run, name)
        for name in RunRecord.__dataclass_fields__
        if name not in _ELSEWHERE
    }
    result = connection.execute(
        insert(schema.runs).values(
            **fields,
            widths=list(run.widths),
            sources=list(run.sources),
            units=run.units.as_dict(),
            vocabulary_id=_vocabulary_id(connection, run),
            content_hash="",
            ready=False,
        )
    )
    key = result.inserted_primary_key
    assert key is not None  # always present after an INSERT of one row
    run_id = int(key[0])
    counts = (pack_counts(run.token_counts), pack_counts(run.source_contexts))
    insert_rows(connection, schema.corpus_counts, [(run_id, *counts)])
    return run_id


def _vocabulary_id(connection: Connection, run: RunRecord) -> int:
    """The id of the run's vocabulary, written unless the store has it."""
    table = schema.vocabularies
    identity = vocabulary_identity(run.vocabulary)
    new = _insert_new(connection)(table).values(identity=identity).on_conflict_do_nothing()
    vocabulary_id = connection.execute(new.returning(table.c.id)).scalar_one_or_none()
    if vocabulary_id is None:
        existing = select(table.c.id).where(table.c.identity == identity)
        return int(connection.execute(existing).scalar_one())
    tokens = ((vocabulary_id, token_id, value) for token_id, value in enumerate(run.vocabulary))
    for batch in _batched(tokens, _ROWS):
        insert_rows(connection, schema.vocabulary, batch)
    return int(vocabulary_id)


def _insert_new(connection: Connection) -> Any:
    """The dialect's INSERT, which can skip existing rows."""
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def pack(block: NeuronBlock) -> Packed:
    """The block laid out and compressed: all work that does not need the database. Raises
    ValueError if a neuron has too many examples or numbers."""
    heads, activations = layout.lists_bytes(block.counts, block.examples)
    arrays = layout.arrays_bytes(len(block), block.arrays, NEURON_ARRAYS, LATER_ARRAYS)
    packer = Packer()
    return Packed(
        block=block,
        hashed=list(
            map(
                b"".join,
                zip(
                    scalar_bytes(block.layer, block.first, block.scalars),
                    arrays,
                    heads,
                    activations,
                    strict=True,
                ),
            )
        ),
        arrays=list(map(packer.arrays, arrays)),
        lists=list(map(packer.lists, heads, activations)),
    )


def _hashed(content: ContentHash, blocks: Iterable[Packed]) -> Iterator[Packed]:
    """The same blocks, hashed in order on a thread; the hash is complete after the last block."""
    with ThreadPoolExecutor(1) as thread:
        last: Future[None] | None = None
        for packed in blocks:
            if last is not None:
                last.result()  # at most one block waits, to bound memory
            last = thread.submit(content.add_neurons, packed.hashed)
            yield packed
        if last is not None:
            last.result()


def _write_layer(
    connection: Connection,
    run_id: int,
    layer: int,
    offset: int,
    blocks: Iterable[Packed],
    postings: Postings,
) -> None:
    maxima: list[float] = []
    densities: list[float] = []
    searchable: dict[str, list[Array]] = {name: [] for name in schema.COLUMNS}
    dead = 0
    for packed in blocks:
        block = packed.block
        postings.add_neurons(block, offset + block.first)
        for name, parts in searchable.items():
            parts.append(block.scalars[name])
        count, key = len(block), schema.neuron_key(run_id, offset + block.first)
        keys = range(key, key + count)
        scalars = {name: _plain(name, block.scalars[name]) for name in SCALARS}
        place = ([run_id] * count, [layer] * count, range(block.first, block.first + count))
        rows = list(zip(keys, *place, *scalars.values(), strict=True))
        insert_rows(connection, schema.neurons, rows)
        insert_rows(connection, schema.neuron_arrays, list(zip(keys, packed.arrays, strict=True)))
        lists = list(zip(keys, itertools.repeat(0), packed.lists, strict=False))
        insert_rows(connection, schema.examples, lists)
        dead += sum(scalars["dead"])
        maxima += [value or 0.0 for value in scalars["max"]]
        densities += [value or 0.0 for value in scalars["density"]]
    columns = {name: np.concatenate(parts) for name, parts in searchable.items()}
    write_columns(connection, run_id, layer, columns)
    levels = np.linspace(0, 1, 21)
    arrays = {
        "max_quantiles": np.quantile(maxima, levels),
        "density_quantiles": np.quantile(densities, levels),
    }
    count = len(maxima)
    means = (sum(maxima) / count, sum(densities) / count)
    packed_arrays = pack_arrays(arrays, LAYER_ARRAYS)
    row = (run_id, layer, count, dead, max(maxima), *means, packed_arrays)
    insert_rows(connection, schema.layers, [row])


def _plain(name: str, values: Array) -> list[Any]:
    """The values of a column of `neurons`. Whole numbers with unknown ones among them come as
    floating point with NaN."""
    numbers = plain(values)
    if values.dtype.kind == "f" and isinstance(schema.neurons.c[name].type, Integer):
        return [None if number is None else int(number) for number in numbers]
    return numbers


def write_columns(
    connection: Connection, run_id: int, layer: int, columns: Mapping[str, Array]
) -> None:
    """Write the `schema.COLUMNS` of one layer, each an array [neurons]."""
    rows = [
        (run_id, name, layer, (columns[name].astype("<f8") + 0.0).tobytes())
        for name in schema.COLUMNS
    ]
    insert_rows(connection, schema.neuron_columns, rows)


def _write_contexts(
    connection: Connection,
    run_id: int,
    run: RunRecord,
    records: Iterable[ContextRecord],
    content: ContentHash,
    postings: Postings,
) -> int:
    """Write the contexts; the id of the last, or −1."""
    last = -1

    def row(record: ContextRecord, neurons: bytes) -> tuple[Any, ...]:
        nonlocal last
        content.add_context(record)
        previous, last = last, record.context_id
        return (
            run_id,
            record.context_id,
            record.document_index,
            record.source_index,
            record.included_from,
            pack_token_ids(record.token_ids),
            neurons,
            previous,
        )

    special = frozenset(run.provenance.get("corpus", {}).get("special_token_ids") or ())

    def texts(record: ContextRecord) -> tuple[int, list[str]]:
        included = record.token_ids[record.included_from :]
        return record.context_id, texts_between(run.vocabulary, included, special)

    def batches() -> Iterator[tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]]:
        for batch in _batched(records, _ROWS):
            ids = [record.context_id for record in batch]
            neurons = postings.contexts(ids, [record.token_ids for record in batch])
            rows = list(map(row, batch, neurons))
            yield rows, text_index.rows_of(connection, map(texts, batch))

    text_index.create(connection, run_id)
    with closing(ahead(batches())) as made:
        for rows, words in made:
            insert_rows(connection, schema.contexts, rows)
            text_index.put(connection, run_id, words)
    text_index.finish(connection, run_id)
    return last


def write_tokens(connection: Connection, run_id: int, postings: Postings) -> int:
    """Write `token_neurons`, after all contexts; the `token_key` of the last row, or −1."""
    last = -1
    for batch in ahead(_batched(postings.tokens(), _ROWS)):
        keys = [schema.token_key(row.token_id, row.role) for row in batch]
        before = [last, *keys[:-1]]
        rows = [(run_id, *row, key) for row, key in zip(batch, before, strict=True)]
        insert_rows(connection, schema.token_neurons, rows)
        last = keys[-1]
    return last


def texts_between(vocabulary: list[bytes], token_ids: Array, special: frozenset[int]) -> list[str]:
    """The texts before, between and after the special tokens of a context [pos]; partial UTF-8
    bytes become U+FFFD."""
    parts: list[list[bytes]] = [[]]
    for token_id in token_ids.tolist():
        if token_id in special:
            parts.append([])
        else:
            parts[-1].append(vocabulary[token_id])
    return [b"".join(part).decode("utf-8", "replace") for part in parts]


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
