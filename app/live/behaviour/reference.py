"""Reads what a text's activations are compared with from the store, a layer at a time."""

from __future__ import annotations

import numpy as np
from sqlalchemy import bindparam, select

from app.live.behaviour.firing import Histograms, Reference
from app.live.behaviour.schemas import By
from app.reading.columns import columns
from app.reading.store import Reading
from indexer.store import schema
from indexer.store.checksums import cover, missing
from indexer.store.packing.gather import gather

_ARRAYS = schema.neuron_arrays
_COVER = cover(_ARRAYS)
_PACKED = (
    select(*_COVER.selected)
    .where(_ARRAYS.c.neuron_id.between(bindparam("first"), bindparam("last")))
    .order_by(_ARRAYS.c.neuron_id)
)


def reference(reading: Reading, layer: int, by: By) -> Reference:
    """What a layer's activations are compared with. Raises Damaged."""
    known = columns(reading.connection, reading.run, ("max", "min", "dead"), [layer])
    both = reading.units.two_sided
    largest = np.maximum(known["max"], -known["min"]) if both else known["max"]
    compared = (largest > 0) & (known["dead"] == 0)
    if by == "maximum":
        return Reference(largest, compared, None, both)
    histograms = _histograms(reading, layer)
    counted = histograms.below[np.arange(len(compared)), histograms.bins] > 0
    compared &= counted & (histograms.width > 0)
    return Reference(largest, compared, histograms, both)


def _histograms(reading: Reading, layer: int) -> Histograms:
    width = reading.run.widths[layer]
    first = schema.neuron_key(reading.run.id, reading.places.index(layer, 0))
    keys = {"first": first, "last": first + width - 1}
    rows = _COVER.check(reading.connection.execute(_PACKED, keys).all())
    if len(rows) < width:
        known = {row.neuron_id for row in rows}
        lost = next(key for key in range(first, first + width) if key not in known)
        raise missing(_ARRAYS, neuron_id=lost)
    arrays = gather([bytes(row.packed) for row in rows], ("histogram_range", "histogram_counts"))
    ranges, counts = arrays["histogram_range"], arrays["histogram_counts"]
    edges = np.zeros((width, 2))
    edges[:, : ranges.values.shape[1]] = ranges.values
    below = np.zeros((width, counts.values.shape[1] + 1), np.int64)
    np.cumsum(counts.values, axis=1, out=below[:, 1:])
    return Histograms(edges[:, 0], edges[:, 1], below, counts.lengths)
