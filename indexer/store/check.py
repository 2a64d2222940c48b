"""Checks a run without its model: the checksum of each row, that none is missing, the content hash.

The content hash was computed while the run was written, from numbers that had not been stored yet.
Here it is computed again, from what is stored.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int64
from sqlalchemy import Connection, Engine, Row, Select, select
from sqlalchemy.exc import SQLAlchemyError

from indexer.errors import NeurariumError
from indexer.store import schema
from indexer.store.checksums import Cover, Damaged, covers, missing, vocabulary_identity
from indexer.store.packing.codec import (
    canonical_arrays,
    canonical_lists,
    unpack_counts,
    unpack_token_ids,
)
from indexer.store.places import Places
from indexer.store.text import index as text_index
from indexer.store.units import HEADS
from indexer.store.writing.content import SCALARS, ContentHash, scalar_bytes
from indexer.store.writing.records import ContextRecord

_CHUNK = 500
"""Rows read at once."""
_BY_NEURON = (
    (schema.neurons, schema.neurons.c.id),
    (schema.neuron_arrays, schema.neuron_arrays.c.neuron_id),
    (schema.examples, schema.examples.c.neuron_id),
)
_SHOWN = 20
"""Places that a report names."""


@dataclass
class Report:
    """What is wrong with a run."""

    run: int
    model: str
    stored_hash: str = ""
    found_hash: str | None = None
    """None: it could not be computed."""
    count: int = 0
    places: list[str] = field(default_factory=list)
    """The first of them, one a line."""

    @property
    def damaged(self) -> bool:
        """Whether anything is wrong."""
        return self.count > 0 or self.found_hash != self.stored_hash

    def add(self, problem: Damaged | str) -> None:
        """Count a problem."""
        self.count += 1
        if len(self.places) < _SHOWN:
            self.places.append(problem.place if isinstance(problem, Damaged) else problem)


class _Reporter(Protocol):
    """The part of a reporter that this needs."""

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]: ...


def check_run(engine: Engine, run_id: int, reporter: _Reporter) -> Report:
    """Check a run. Raises NeurariumError if there is no such run."""
    with engine.connect() as connection:
        table = schema.runs
        row = connection.execute(select(table).where(table.c.id == run_id)).one_or_none()
        if row is None:
            raise NeurariumError(f"There is no run {run_id}: `neurarium runs` lists all runs.")
        report = Report(run_id, row.model, row.content_hash)
        progress = reporter.stage("Checking", sum(row.widths), "neurons")
        _check_rows(covers(table), [row], report)
        try:
            report.found_hash = _content_hash(connection, row, report, progress)
            _check_others(connection, row, report)
        except SQLAlchemyError as error:
            report.add(f"the database cannot be read: {getattr(error, 'orig', None) or error}")
    return report


def run_ids(engine: Engine) -> list[int]:
    """The runs of a store."""
    with engine.connect() as connection:
        return list(connection.scalars(select(schema.runs.c.id).order_by(schema.runs.c.id)))


def rehash(connection: Connection, run: Row[Any]) -> str | None:
    """A run's content hash, from what is stored; None if that cannot be unpacked. Needs no
    checksums."""
    report = Report(run.id, run.model)
    return _content_hash(connection, run, report, lambda done: None, checked=False)


def _content_hash(
    connection: Connection,
    run: Row[Any],
    report: Report,
    progress: Callable[[int], None],
    *,
    checked: bool = True,
) -> str | None:
    """The hash; None if something cannot be unpacked, which the report then names."""
    vocabulary = schema.vocabulary
    tokens = connection.scalars(
        select(vocabulary.c.bytes)
        .where(vocabulary.c.vocabulary_id == run.vocabulary_id)
        .order_by(vocabulary.c.token_id)
    )
    identity = vocabulary_identity(map(bytes, tokens))
    stored = schema.vocabularies
    wanted = select(stored.c.identity).where(stored.c.id == run.vocabulary_id)
    if connection.scalar(wanted) != identity:
        report.add(f"table vocabulary: the tokens with vocabulary_id={run.vocabulary_id}")
    content = ContentHash(run, identity, _counts(connection, run, report, checked=checked))
    whole = True
    for neurons, done in _neurons(connection, run, report, checked=checked):
        try:
            content.add_neurons(_canonical(neurons))
        except (ValueError, TypeError, struct.error) as error:
            whole = False
            report.add(f"run {run.id}: neurons before number {done}: {error}")
        progress(done)
    last = -1
    table = schema.contexts
    for rows in _chunks(connection, select(table).where(table.c.run_id == run.id), table):
        if checked:
            _check_rows(covers(table), rows, report)
        for row in rows:
            if checked and row.previous != last:
                report.add(missing(table, run_id=run.id, context_id=f"after {last}"))
            last = row.context_id
            try:
                content.add_context(
                    ContextRecord(
                        context_id=row.context_id,
                        document_index=row.document_index,
                        source_index=row.source_index,
                        included_from=row.included_from,
                        token_ids=unpack_token_ids(bytes(row.token_ids)),
                    )
                )
            except (ValueError, TypeError, struct.error):
                whole = False
    if checked and last != run.last_context:
        report.add(missing(table, run_id=run.id, context_id=run.last_context))
    content.add_heads(_heads(connection, run, report, checked=checked))
    return content.hexdigest() if whole else None


def _counts(
    connection: Connection, run: Row[Any], report: Report, *, checked: bool
) -> list[Int64[np.ndarray, " n"]]:
    """The counts of the corpus's tokens and of its sources; none if they cannot be unpacked."""
    table = schema.corpus_counts
    row = connection.execute(select(table).where(table.c.run_id == run.id)).one_or_none()
    if row is None:
        report.add(missing(table, run_id=run.id))
        return []
    if checked:
        _check_rows(covers(table), [row], report)
    try:
        return [unpack_counts(bytes(row.tokens)), unpack_counts(bytes(row.sources))]
    except ValueError:
        return []


def _heads(
    connection: Connection, run: Row[Any], report: Report, *, checked: bool
) -> Iterator[bytes]:
    """The bytes of attention heads that were hashed when they were written; none of other units."""
    if run.set_name != HEADS:
        return
    first = schema.neuron_key(run.id, 0)
    heads, patterns = schema.heads, schema.head_patterns
    for key in range(first, first + sum(run.widths)):
        row = connection.execute(select(heads).where(heads.c.neuron_id == key)).one_or_none()
        query = select(patterns).where(patterns.c.neuron_id == key).order_by(patterns.c.context_id)
        rows = connection.execute(query).all()
        if row is None:
            report.add(missing(heads, neuron_id=key))
            continue
        if checked:
            _check_rows(covers(heads), [row], report)
            _check_rows(covers(patterns), rows, report)
        yield row.facts.encode() + b"".join(bytes(pattern.packed) for pattern in rows)


def _neurons(
    connection: Connection, run: Row[Any], report: Report, *, checked: bool
) -> Iterator[tuple[list[tuple[Row[Any], Row[Any], list[Row[Any]]]], int]]:
    """The rows of neurons in order, a chunk at a time, and how many are done: each with its arrays
    and its examples. Neurons with a missing row are reported and left out."""
    places = Places(run.widths)
    first = schema.neuron_key(run.id, 0)
    for begin in range(0, len(places), _CHUNK):
        end = min(begin + _CHUNK, len(places))
        keys = range(first + begin, first + end)
        of_key: dict[str, dict[int, list[Row[Any]]]] = {}
        for table, column in _BY_NEURON:
            query = select(table).where(column.between(keys[0], keys[-1]))
            query = query.order_by(*table.primary_key)
            rows = connection.execute(query).all()
            if checked:
                _check_rows(covers(table), rows, report)
            by_key = of_key[table.name] = dict[int, list[Row[Any]]]()
            for row in rows:
                by_key.setdefault(row[0], []).append(row)
            for lost in (key for key in keys if key not in by_key):
                name = next(iter(table.primary_key)).name
                report.add(missing(table, **{name: lost}))
        batch = []
        for key in keys:
            parts = [of_key[table.name].get(key) for table, _ in _BY_NEURON]
            if all(parts):
                neuron, arrays, examples = (part or [] for part in parts)
                batch.append((neuron[0], arrays[0], examples))
        yield batch, end


def _canonical(
    neurons: Sequence[tuple[Row[Any], Row[Any], list[Row[Any]]]],
) -> Iterator[bytes]:
    """The bytes of neurons that were hashed when they were written."""
    for neuron, arrays, examples in neurons:
        scalars = {name: np.array([_number(getattr(neuron, name))]) for name in SCALARS}
        yield from scalar_bytes(neuron.layer, neuron.neuron, scalars)
        yield canonical_arrays(bytes(arrays.packed))
        for row in examples:
            yield canonical_lists(bytes(row.packed))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _check_others(connection: Connection, run: Row[Any], report: Report) -> None:
    """Check what the content hash does not cover: what is derived from it, for searches."""
    layers, columns, tokens = schema.layers, schema.neuron_columns, schema.token_neurons
    query = select(layers).where(layers.c.run_id == run.id)
    rows = connection.execute(query).all()
    _check_rows(covers(layers), rows, report)
    present = [layer for layer, width in enumerate(run.widths) if width]
    of_heads = set(schema.HEAD_COLUMNS) - set(schema.LATER_COLUMNS)
    names = {*schema.COLUMNS, *(of_heads if run.set_name == HEADS else ())}
    for layer in sorted(set(present) - {row.layer for row in rows}):
        report.add(missing(layers, run_id=run.id, layer=layer))
    for layer in present:
        query = select(columns).where(columns.c.run_id == run.id, columns.c.layer == layer)
        rows = connection.execute(query).all()
        _check_rows(covers(columns), rows, report)
        for name in sorted(names - {row.name for row in rows}):
            report.add(missing(columns, run_id=run.id, name=name, layer=layer))
    last = -1
    for rows in _chunks(connection, select(tokens).where(tokens.c.run_id == run.id), tokens):
        _check_rows(covers(tokens), rows, report)
        for row in rows:
            if row.previous != last:
                token, role = divmod(last, len(schema.ROLES))
                report.add(f"run {run.id}, table token_neurons: what followed {token}, {role}")
            last = schema.token_key(row.token_id, row.role)
    if last != run.last_token:
        report.add(f"run {run.id}, table token_neurons: its last rows are missing")
    try:
        text_index.check(connection, run.id, run.text_digest)
    except Damaged as error:
        report.add(error)


def _check_rows(rules: Sequence[Cover], rows: Sequence[Row[Any]], report: Report) -> None:
    """Report the rows, of all columns of a table, with a wrong checksum."""
    for rule in rules:
        for row in rows:
            try:
                rule.check([tuple(row._mapping[column] for column in rule.selected)])
            except Damaged as error:
                report.add(error)


def _chunks(connection: Connection, query: Select[Any], table: Any) -> Iterator[list[Row[Any]]]:
    query = query.order_by(*table.primary_key)
    streamed = connection.execute(query, execution_options={"yield_per": _CHUNK})
    for rows in streamed.partitions():
        yield list(rows)
