"""A whole run as lines of JSON that can be imported again: the run, its neurons as the API has
them with what the store has besides, and its contexts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from app.export.lines import Notes, neuron_lines
from app.reading.store import Reading
from indexer.store.transfer.heads import head_part, head_values, iter_heads
from indexer.store.transfer.lines import context_line, digest, dumped, run_line, stored_part
from indexer.store.transfer.records import (
    StoredNeuron,
    read_contexts,
    read_neurons,
    read_record,
    run_row,
)
from indexer.store.units import HEADS


def head(reading: Reading) -> bytes:
    """The line of the run."""
    row = run_row(reading.connection, reading.run.id)
    return dumped(run_line(read_record(reading.connection, row), row.content_hash))


def neurons(reading: Reading, notes: Notes | None) -> Iterator[bytes]:
    """The lines of all neurons."""
    pages = neuron_lines(reading, np.arange(len(reading.places)), None, notes)
    for _, own in _stored(reading):
        yield b'{"type":"neuron",' + next(pages)[1:-2] + b"," + dumped(own)[1:]


def beside(reading: Reading, records: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of all neurons, for a file next to their NeuronRecords."""
    for neuron, own in _stored(reading):
        place = {"type": "neuron", "layer": neuron.layer, "neuron": neuron.neuron}
        yield dumped(place | {"record": digest(next(records))} | own)


def _stored(reading: Reading) -> Iterator[tuple[StoredNeuron, dict[str, Any]]]:
    """Each neuron with what the store has of it."""
    everything = [(0, len(reading.places) - 1)]
    heads = _heads(reading)
    for part in read_neurons(reading.connection, reading.run.id, everything):
        for neuron in part:
            yield neuron, {"stored": stored_part(neuron), **next(heads, {})}


def _heads(reading: Reading) -> Iterator[dict[str, Any]]:
    """What the line of each unit has besides, in a run of attention heads."""
    if reading.run.set_name != HEADS:
        return
    values = head_values(reading.connection, reading.run)
    for head, scores in zip(iter_heads(reading.connection, reading.run), values, strict=True):
        yield {"head": head_part(head, scores)}


def contexts(reading: Reading) -> Iterator[bytes]:
    """The lines of all contexts."""
    for record in read_contexts(reading.connection, reading.run.id):
        yield dumped(context_line(record))
