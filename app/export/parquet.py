"""Neurons as Arrow tables, for Parquet: statistics, examples, tokens of the weights, related
neurons, and the contexts that examples refer to.

Rows are made for a few hundred neurons at a time, from the packed columns, without the objects of a
page: a run of tens of thousands of neurons takes seconds, and its size needs no memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Row

from app.export.columns import FLOATS, LINKS, PLACE, QUANTILES, SCHEMAS, TOKENS
from app.export.context_tokens import ContextTokens
from app.reading.store import Reading
from app.reading.unit_names import name_of
from app.schemas import Note
from indexer.store import schema
from indexer.store.packing.codec import ExampleArrays, dequantized
from indexer.store.transfer.records import (
    StoredNeuron,
    read_contexts,
    read_neurons,
)

Array = np.ndarray[Any, Any]

Table = tuple[str, pa.Table]
"""A part of the table of this name."""


def notes_table(notes: Sequence[Note]) -> pa.Table:
    """Notes, a row each."""
    kinds = [*PLACE, ("time", pa.timestamp("us", "UTC")), ("author", pa.string())]
    return pa.Table.from_pylist(
        [note.model_dump(include={"layer", "neuron", "time", "author", "text"}) for note in notes],
        pa.schema([*kinds, ("text", pa.string())]),
    )


class Tables:
    """Makes the tables of one run."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._run: Row[Any] = reading.run
        self._words = pa.array(reading.vocabulary, pa.string())
        self._sources = pa.array(self._run.sources, pa.string())
        self._unnamed = np.array(
            [index for index, name in enumerate(self._run.sources) if not name]
        )
        self._special = np.array(sorted(reading.special_token_ids), np.int64)
        self._contexts = ContextTokens(reading)

    def of_neurons(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, list[Table]]]:
        """The tables of neurons, by a few hundred; each with the number of neurons in it.
        `ranges` are first and last indices over all layers."""
        for neurons in read_neurons(self._reading.connection, self._run.id, ranges):
            yield (
                len(neurons),
                [
                    ("neurons", self._statistics(neurons)),
                    ("examples", self._examples(neurons)),
                    ("tokens", self._tokens(neurons)),
                    ("links", self._links(neurons)),
                ],
            )

    def contexts(self) -> Iterator[Table]:
        """The stored contexts, by a thousand."""
        batch: list[Any] = []
        for record in read_contexts(self._reading.connection, self._run.id):
            batch.append(record)
            if len(batch) == 1000:
                yield "contexts", self._context_table(batch)
                batch = []
        yield "contexts", self._context_table(batch)

    def _word(self, ids: Array) -> pa.Array:
        # Only the tokens that occur: a file repeats the dictionary in each of its parts.
        used, at = np.unique(ids, return_inverse=True)
        words = self._words.take(pa.array(used))
        return pa.DictionaryArray.from_arrays(pa.array(at.astype(np.int32)), words)

    def _source(self, indices: Array) -> pa.Array:
        """Names of sources; null where there is none."""
        none = (indices < 0) | np.isin(indices, self._unnamed)
        return pa.DictionaryArray.from_arrays(
            pa.array(indices, pa.int32(), mask=none), self._sources
        )

    def _statistics(self, neurons: Sequence[StoredNeuron]) -> pa.Table:
        columns: dict[str, Any] = _places(neurons, np.ones(len(neurons), np.int64))
        columns["name"] = pa.array(
            [name_of(neuron.arrays["name"]) for neuron in neurons], pa.string()
        )
        for name in FLOATS:
            values = np.array([neuron.scalars[name] for neuron in neurons], np.float64)
            # −inf: a constant neuron has no value
            columns[name] = pa.array(values, mask=~np.isfinite(values))
        columns["dead"] = [bool(neuron.scalars["dead"]) for neuron in neurons]
        for name in ("peak_token", "promoted_token"):
            known = np.array([neuron.scalars[f"{name}_id"] for neuron in neurons], np.float64)
            none = np.isnan(known)
            ids = np.where(none, 0, known).astype(np.int32)
            words = self._word(ids)
            indices = pa.array(words.indices.to_numpy(), mask=none)
            columns[name] = pa.DictionaryArray.from_arrays(indices, words.dictionary)
            columns[f"{name}_id"] = pa.array(ids, mask=none)
        sources = np.array([neuron.scalars["top_source"] for neuron in neurons], np.int32)
        columns["top_source"] = self._source(sources)
        for at, name in enumerate(QUANTILES):
            columns[f"peak_{name}"] = [
                float(neuron.arrays["peak_quantiles"][at]) for neuron in neurons
            ]
        ranges = [neuron.arrays["histogram_range"] for neuron in neurons]
        columns["histogram_start"] = [float(r[0]) if len(r) else None for r in ranges]
        columns["histogram_width"] = [float(r[1]) if len(r) else None for r in ranges]
        columns["histogram_counts"] = _lists([n.arrays["histogram_counts"] for n in neurons])
        return _table("neurons", columns)

    def _examples(self, neurons: Sequence[StoredNeuron]) -> pa.Table:
        parts: list[ExampleArrays] = []
        kinds: list[int] = []
        counts = np.zeros(len(neurons), np.int64)
        for at, neuron in enumerate(neurons):
            for kind, examples in neuron.kinds.items():
                parts.append(examples)
                kinds.append(kind)
                counts[at] += len(examples)
        columns: dict[str, Any] = _places(neurons, counts)
        each = np.array([len(part) for part in parts], np.int64)
        columns["kind"] = pa.DictionaryArray.from_arrays(
            pa.array(np.repeat(np.array(kinds, np.int32), each)), pa.array(schema.KINDS)
        )
        columns["rank"] = _ranks(each)
        for name in ("peaks", "troughs", "gates", "linears"):
            values = _joined([getattr(part, name) for part in parts], np.float32)
            columns[name.removesuffix("s")] = pa.array(values, mask=np.isnan(values))
        ints = {
            name: _joined([getattr(part, name) for part in parts], np.int64)
            for name in ("peak_positions", "trough_positions", "context_ids", "starts", "lengths")
        }
        columns["peak_position"] = ints["peak_positions"]
        columns["trough_position"] = ints["trough_positions"]
        columns["context_id"], columns["start"] = ints["context_ids"], ints["starts"]
        tokens = self._contexts.tokens_at(ints["context_ids"], ints["peak_positions"])
        columns["peak_token"], columns["peak_token_id"] = self._word(tokens), tokens
        columns["activations"] = self._activations(parts, ints)
        return _table("examples", columns)

    def _activations(self, parts: Sequence[ExampleArrays], ints: dict[str, Array]) -> pa.Array:
        """Lists of activations as pages have them: peaks and troughs exact, null where a position
        is not included."""
        lengths = ints["lengths"]
        peaks, troughs, scales = (
            _joined([getattr(part, name) for part in parts], np.float32)
            for name in ("peaks", "troughs", "scales")
        )
        values = dequantized(
            _joined([part.quantized for part in parts], np.int8), lengths, scales, troughs, peaks
        )
        ends = np.cumsum(lengths)
        begins = ends - lengths
        included = self._contexts.included_from(ints["context_ids"])
        left_out = np.clip(included - ints["starts"], 0, lengths)
        mask = np.zeros(len(values), np.bool_)
        mask[_within(begins, left_out)] = True
        if len(self._special):
            positions = np.arange(len(values)) - np.repeat(begins - ints["starts"], lengths)
            ids = self._contexts.tokens_at(ints["context_ids"], positions, lengths)
            mask |= np.isin(ids, self._special)
        for position, exact in (("trough_positions", troughs), ("peak_positions", peaks)):
            at = ints[position] - ints["starts"]
            there = (at >= 0) & (at < lengths)
            values[(begins + at)[there]] = exact[there]
            mask[(begins + at)[there]] = False
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        return pa.ListArray.from_arrays(offsets, pa.array(values, mask=mask))

    def _tokens(self, neurons: Sequence[StoredNeuron]) -> pa.Table:
        ids: list[Array] = []
        values: list[Array] = []
        counts = np.zeros(len(neurons), np.int64)
        groups: list[tuple[int, int, int]] = []  # list, side, tokens
        for at, neuron in enumerate(neurons):
            for number, name in enumerate(TOKENS):
                half = len(neuron.arrays[f"{name}_token_ids"]) // 2
                if half:
                    ids.append(neuron.arrays[f"{name}_token_ids"][: 2 * half])
                    values.append(neuron.arrays[f"{name}_values"][: 2 * half])
                    groups += [(number, 0, half), (number, 1, half)]
                    counts[at] += 2 * half
        columns: dict[str, Any] = _places(neurons, counts)
        made = np.array(groups, np.int32).reshape(-1, 3)
        for name, column, words in (("list", 0, TOKENS), ("side", 1, ("top", "bottom"))):
            columns[name] = pa.DictionaryArray.from_arrays(
                pa.array(np.repeat(made[:, column], made[:, 2])), pa.array(words)
            )
        columns["rank"] = _ranks(made[:, 2])
        all_ids = _joined(ids, np.int32)
        columns["token"], columns["token_id"] = self._word(all_ids), all_ids
        columns["value"] = _joined(values, np.float32)
        return _table("tokens", columns)

    def _links(self, neurons: Sequence[StoredNeuron]) -> pa.Table:
        to: list[Array] = []
        values: list[Array] = []
        counts = np.zeros(len(neurons), np.int64)
        groups: list[tuple[int, int]] = []
        for at, neuron in enumerate(neurons):
            for number, name in enumerate(LINKS):
                linked = neuron.arrays[f"{name}_neurons"]
                to.append(linked)
                values.append(neuron.arrays[f"{name}_values"])
                groups.append((number, len(linked)))
                counts[at] += len(linked)
        columns: dict[str, Any] = _places(neurons, counts)
        made = np.array(groups, np.int32).reshape(-1, 2)
        columns["list"] = pa.DictionaryArray.from_arrays(
            pa.array(np.repeat(made[:, 0], made[:, 1])), pa.array(LINKS)
        )
        columns["rank"] = _ranks(made[:, 1])
        linked_units = self._reading.places.of_all(_joined(to, np.int64))
        columns["to_layer"], columns["to_neuron"] = linked_units
        columns["value"] = _joined(values, np.float32)
        return _table("links", columns)

    def _context_table(self, records: Sequence[Any]) -> pa.Table:
        ids = _lists([record.token_ids.astype(np.int32) for record in records])
        sources = np.array([record.source_index for record in records], np.int32)
        return _table(
            "contexts",
            {
                "context_id": [record.context_id for record in records],
                "document_index": [record.document_index for record in records],
                "source": self._source(sources),
                "included_from": [record.included_from for record in records],
                "token_ids": ids,
                "tokens": pa.ListArray.from_arrays(ids.offsets, self._word(ids.values)),
            },
        )


def _table(name: str, columns: dict[str, Any]) -> pa.Table:
    return pa.table({field.name: columns[field.name] for field in SCHEMAS[name]}, SCHEMAS[name])


def _places(neurons: Sequence[StoredNeuron], counts: Array) -> dict[str, Any]:
    """The columns `layer` and `neuron` [sum of counts]: neuron i is repeated `counts[i]` times."""
    return {
        "layer": np.repeat(np.array([neuron.layer for neuron in neurons], np.int32), counts),
        "neuron": np.repeat(np.array([neuron.neuron for neuron in neurons], np.int32), counts),
    }


def _joined(arrays: Sequence[Array], dtype: Any) -> Array:
    return np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype, copy=False)


def _ranks(counts: Array) -> Array:
    """1, 2, …, count for each of the counts [n], concatenated [sum of counts]."""
    counts = counts.astype(np.int64)
    ends = np.cumsum(counts)
    ranks: Array = np.arange(1, int(counts.sum()) + 1) - np.repeat(ends - counts, counts)
    return ranks


def _within(begins: Array, counts: Array) -> Array:
    """The indices begin, begin + 1, … for each begin [n], as many as its count [n],
    concatenated."""
    places: Array = np.repeat(begins, counts) + _ranks(counts) - 1
    return places


def _lists(arrays: Sequence[Array]) -> pa.ListArray:
    offsets = np.cumsum([0, *(len(array) for array in arrays)])
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(_joined(arrays, np.int32))
    )
