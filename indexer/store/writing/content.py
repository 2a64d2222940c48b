"""The content hash of a run, computed while it is written, and again by `neurarium check`."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sqlalchemy import Row

from indexer.store import schema
from indexer.store.checksums import cover
from indexer.store.packing.codec import pack_token_ids
from indexer.store.units import NEURONS, Units
from indexer.store.writing.records import ContextRecord, RunRecord

Array = np.ndarray[Any, Any]

SCALARS = [column.name for column in cover(schema.neurons).columns[4:]]
"""The columns of `neurons` after its key and place."""


class ContentHash:
    """SHA-256 over the content of a run in key order, without ids, times, versions or machine."""

    def __init__(
        self, run: RunRecord | Row[Any], vocabulary_identity: str, counts: Iterable[Array]
    ) -> None:
        """`run` is a run's record, or its row of `runs`; `counts` are those of `corpus_counts`, of
        tokens and of sources."""
        self._sha = hashlib.sha256()
        sizes = (run.ctx_len, run.contexts, run.tokens, run.sample_contexts, run.sample_positions)
        facts: list[Any] = [run.hook_point, sizes, run.widths, run.sources]
        if run.set_name != NEURONS:  # hashes of neurons are older than sets of units
            units = run.units if isinstance(run.units, Units) else Units.of(run.units)
            facts += [run.set_name, units.as_dict()]
        self._sha.update(json.dumps(facts).encode())
        self._sha.update(vocabulary_identity.encode())
        for counted in counts:
            self._sha.update(counted.astype("<i8").tobytes())

    def add_neurons(self, rows: Iterable[bytes]) -> None:
        """Add the canonical bytes of neurons, in order of (layer, neuron), before any context."""
        for row in rows:
            self._sha.update(row)

    def add_context(self, record: ContextRecord) -> None:
        """Add a context; contexts come in order of id."""
        place = (record.context_id, record.document_index, record.source_index)
        self._sha.update(struct.pack("<4q", *place, record.included_from))
        self._sha.update(pack_token_ids(record.token_ids))

    def add_heads(self, heads: Iterable[bytes]) -> None:
        """Add the canonical bytes of attention heads, in order, after all contexts."""
        for head in heads:
            self._sha.update(head)

    def hexdigest(self) -> str:
        """The hash so far."""
        return self._sha.hexdigest()


def scalar_bytes(layer: int, first: int, scalars: Mapping[str, Array]) -> list[bytes]:
    """Layer, index and scalars of consecutive neurons of a layer as bytes, for the hash. `scalars`
    are numbers [neurons] by column; `first` is the index of the first neuron."""
    count = len(next(iter(scalars.values())))
    rows = np.empty((count, 2 + len(scalars)), "<f8")
    place = rows.view("<i8")
    place[:, 0] = layer
    place[:, 1] = first + np.arange(count)
    for index, name in enumerate(sorted(scalars), 2):
        values = scalars[name].astype(np.float64) + 0.0
        rows[:, index] = np.where(np.isnan(values), np.nan, values)  # one canonical NaN
    return [row.tobytes() for row in rows]
