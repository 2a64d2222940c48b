"""Statistics that only each neuron's own packed arrays have: selectivity by source, and the most
similar output weights. They are read once a layer and kept in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from sqlalchemy import bindparam, select

from app.reading.columns import Column
from app.reading.store import Reading
from indexer.store import schema
from indexer.store.checksums import cover, missing
from indexer.store.packing.codec import unpack_arrays
from indexer.store.sizes import SOURCE_SLOTS

_COVER = cover(schema.neuron_arrays)
_ARRAYS = (
    select(*_COVER.selected)
    .where(schema.neuron_arrays.c.neuron_id.between(bindparam("first"), bindparam("last")))
    .order_by(schema.neuron_arrays.c.neuron_id)
)
ALIKE = "alike"
"""The cosine of a neuron's output weights with the most similar ones of the model."""


@dataclass(frozen=True, slots=True)
class LayerArrays:
    """Facts about all neurons of a layer; NaN or −1: unknown."""

    means: Float64[np.ndarray, "neurons sources"]
    """The mean peak over the sample's contexts of each source slot."""
    alike: Float64[np.ndarray, " neurons"]
    """The cosine with the most similar output weights."""
    partner: Int64[np.ndarray, " neurons"]
    """The neuron that has these, by its index over all layers."""


def layer_arrays(reading: Reading, layer: int) -> LayerArrays:
    """The facts about a layer's neurons. Raises Damaged."""
    return reading.derived.of(f"arrays {layer}", reading.run, compute=lambda: _read(reading, layer))


def selectivity(reading: Reading, source: int, layers: list[int]) -> Column:
    """How much higher neurons peak in a source than in the others: (s − o) ÷ (|s| + |o|), of the
    mean peak s in it and the mean o of the other sources' mean peaks, from −1 to 1.

    It is the class selectivity index of Morcos et al. 2018 ("On the importance of single directions
    for generalization"), with magnitudes below, as activations can be negative. NaN where the
    sample has no context of the source, or none of another.
    """
    slot = min(source, SOURCE_SLOTS)
    parts = []
    for layer in layers:
        means = layer_arrays(reading, layer).means
        if slot >= means.shape[1]:
            parts.append(np.full(len(means), np.nan))
            continue
        own = means[:, slot]
        others = np.delete(means, slot, axis=1)
        known = np.isfinite(others)
        counts = known.sum(axis=1)
        total = np.where(known, others, 0.0).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            other = total / counts
            parts.append((own - other) / (np.abs(own) + np.abs(other)))
    return np.concatenate(parts)


def alike(reading: Reading, layers: list[int]) -> Column:
    """The column `ALIKE` of some layers."""
    return np.concatenate([layer_arrays(reading, layer).alike for layer in layers])


def partners(reading: Reading, indices: list[int]) -> dict[int, int]:
    """The neurons with the most similar output weights, by index over all layers."""
    by_index = {}
    for index in indices:
        layer, neuron = reading.places.of(index)
        partner = int(layer_arrays(reading, layer).partner[neuron])
        if partner >= 0:
            by_index[index] = partner
    return by_index


def stored_arrays(reading: Reading, layer: int) -> list[dict[str, Any]]:
    """The small arrays of each neuron of a layer. Raises Damaged, also if one is missing."""
    width = reading.run.widths[layer]
    first = schema.neuron_key(reading.run.id, reading.places.index(layer, 0))
    rows = reading.connection.execute(_ARRAYS, {"first": first, "last": first + width - 1}).all()
    keys = {row.neuron_id for row in _COVER.check(rows)}
    for key in range(first, first + width):
        if key not in keys:
            raise missing(schema.neuron_arrays, neuron_id=key)
    return [unpack_arrays(bytes(row.packed)) for row in rows]


def _read(reading: Reading, layer: int) -> LayerArrays:
    width = reading.run.widths[layer]
    unpacked = stored_arrays(reading, layer)
    slots = max((len(arrays["source_mean_peaks"]) for arrays in unpacked), default=0)
    means = np.full((width, slots), np.nan)
    cosines = np.full(width, np.nan)
    partner = np.full(width, -1, np.int64)
    for place, arrays in enumerate(unpacked):
        own = arrays["source_mean_peaks"]
        means[place, : len(own)] = own
        if len(arrays["alike_values"]):
            best = int(np.argmax(arrays["alike_values"]))
            cosines[place] = arrays["alike_values"][best]
            partner[place] = arrays["alike_neurons"][best]
    return LayerArrays(means, cosines, partner)
