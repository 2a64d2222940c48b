"""Statistics that only each neuron's own packed arrays have: selectivity by source, and the most
similar output weights. They are read once a layer and kept in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from sqlalchemy import bindparam, select

from app.reading.columns import Column
from app.reading.store import Reading
from indexer.store import schema
from indexer.store.checksums import cover, missing
from indexer.store.packing.gather import Gathered, gather
from indexer.store.sizes import SOURCE_SLOTS

_COVER = cover(schema.neuron_arrays)
_ARRAYS = (
    select(*_COVER.selected)
    .where(schema.neuron_arrays.c.neuron_id.between(bindparam("first"), bindparam("last")))
    .order_by(schema.neuron_arrays.c.neuron_id)
)
_TOGETHER = 4096
"""Neurons read at a time: their bytes and the places of their numbers are in memory meanwhile."""
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
    mean peak s in it and the mean o of the other sources' mean peaks, from −1 to 1. Raises Damaged.

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
    """The column `ALIKE` of some layers. Raises Damaged."""
    return np.concatenate([layer_arrays(reading, layer).alike for layer in layers])


def partners(reading: Reading, indices: list[int]) -> dict[int, int]:
    """The neurons with the most similar output weights, by index over all layers. Raises
    Damaged."""
    by_index = {}
    for index in indices:
        layer, neuron = reading.places.of(index)
        partner = int(layer_arrays(reading, layer).partner[neuron])
        if partner >= 0:
            by_index[index] = partner
    return by_index


def stored_arrays(
    reading: Reading, layer: int, names: Sequence[str]
) -> Iterator[tuple[int, dict[str, Gathered]]]:
    """Some of the small arrays of all neurons of a layer: by name, for consecutive neurons, with
    the first one's index. Raises Damaged, also if a neuron has none."""
    width = reading.run.widths[layer]
    base = schema.neuron_key(reading.run.id, reading.places.index(layer, 0)) if width else 0
    for first in range(0, width, _TOGETHER):
        keys = range(base + first, base + min(width, first + _TOGETHER))
        parameters = {"first": keys.start, "last": keys.stop - 1}
        rows = _COVER.check(reading.connection.execute(_ARRAYS, parameters).all())
        stored = {row.neuron_id for row in rows}
        for key in keys:
            if key not in stored:
                raise missing(schema.neuron_arrays, neuron_id=key)
        yield first, gather([bytes(row.packed) for row in rows], names)


def _read(reading: Reading, layer: int) -> LayerArrays:
    names = ("source_mean_peaks", "alike_neurons", "alike_values")
    parts = [_facts(arrays) for _, arrays in stored_arrays(reading, layer, names)]
    slots = max((part.means.shape[1] for part in parts), default=0)
    means = [
        np.pad(part.means, ((0, 0), (0, slots - part.means.shape[1])), constant_values=np.nan)
        for part in parts
    ]
    return LayerArrays(
        np.concatenate([np.empty((0, slots)), *means]),
        np.concatenate([np.empty(0), *(part.alike for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.partner for part in parts)]),
    )


def _facts(arrays: dict[str, Gathered]) -> LayerArrays:
    of_sources, cosines = arrays["source_mean_peaks"], arrays["alike_values"]
    best_cosine = np.full(len(cosines.lengths), np.nan)
    partner = np.full(len(cosines.lengths), -1, np.int64)
    listed = np.flatnonzero(cosines.lengths)
    if len(listed):
        present = np.where(_present(cosines), cosines.values, -np.inf)[listed]
        best = present.argmax(axis=1)
        best_cosine[listed] = present[np.arange(len(listed)), best]
        partner[listed] = arrays["alike_neurons"].values[listed, best]
    means = np.where(_present(of_sources), of_sources.values, np.nan)
    return LayerArrays(means, best_cosine, partner)


def _present(arrays: Gathered) -> Bool[np.ndarray, "neurons longest"]:
    """Which numbers of `arrays.values` are a neuron's own, not padding."""
    present: Bool[np.ndarray, "neurons longest"] = (
        np.arange(arrays.values.shape[1]) < arrays.lengths[:, None]
    )
    return present
