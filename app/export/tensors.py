"""Peaks and what weights say as safetensors: numbers only, one array a layer and name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from app.reading.store import Reading
from indexer.store import schema
from indexer.store.packing.codec import peak_unit
from indexer.store.transfer.records import SCALARS, StoredNeuron, read_neurons

Array = np.ndarray[Any, Any]

_LISTS = ("logit", "in", "gate")


class Tensors:
    """Gathers the arrays of chosen neurons; in memory, about 1.5 KB a neuron."""

    def __init__(self) -> None:
        self._by_layer: dict[int, dict[str, list[Array]]] = {}

    def add(self, neurons: Sequence[StoredNeuron]) -> None:
        """Add neurons."""
        for neuron in neurons:
            columns = self._by_layer.setdefault(neuron.layer, {})
            for name, values in _arrays(neuron).items():
                columns.setdefault(name, []).append(values)

    def arrays(self) -> dict[str, Array]:
        """All arrays as `LAYER.NAME`, [neurons] or [neurons, m]; short rows end with NaN or −1."""
        return {
            f"{layer}.{name}": _stacked(rows)
            for layer, columns in sorted(self._by_layer.items())
            for name, rows in columns.items()
        }


def tensors_of(reading: Reading, ranges: Iterable[tuple[int, int]], progress: Any) -> bytes:
    """A safetensors file of the neurons in `ranges` of indices over all layers."""
    from safetensors.numpy import save

    gathered, done = Tensors(), 0
    for neurons in read_neurons(reading.connection, reading.run.id, ranges):
        gathered.add(neurons)
        done += len(neurons)
        progress(done)
    run = reading.run
    metadata = {
        "model": run.model,
        "hook_point": run.hook_point,
        "corpus": run.corpus,
        "content_hash": run.content_hash,
    }
    content: bytes = save(gathered.arrays(), metadata)
    return content


def _arrays(neuron: StoredNeuron) -> dict[str, Array]:
    low, high = (np.array([neuron.scalars[name]]) for name in ("min", "max"))
    top, bottom = (neuron.kinds.get(schema.KINDS.index(kind)) for kind in ("top", "bottom"))
    nothing = np.empty(0, np.float32)
    made: dict[str, Array] = {
        "neurons": np.array(neuron.neuron, np.int32),
        "top_peaks": nothing if top is None else top.peaks,
        "bottom_troughs": nothing if bottom is None else bottom.troughs,
        "sample_peaks": (neuron.arrays["sample_peaks"] * peak_unit(low, high)).astype(np.float32),
    }
    for name in _LISTS:
        made[f"{name}_token_ids"] = neuron.arrays[f"{name}_token_ids"]
        made[f"{name}_values"] = neuron.arrays[f"{name}_values"]
    for name in SCALARS:
        whole = name in ("dead", "peak_token_id", "promoted_token_id", "top_source")
        value = neuron.scalars[name]
        if whole:
            made[name] = np.array(-1 if value != value else value, np.int32)  # −1: unknown
        else:
            made[name] = np.array(value, np.float64)
    return made


def _stacked(rows: list[Array]) -> Array:
    if not rows[0].ndim:
        return np.stack(rows)
    width = max(len(row) for row in rows)
    fill = np.nan if rows[0].dtype.kind == "f" else -1
    out = np.full((len(rows), width), fill, rows[0].dtype)
    for at, row in enumerate(rows):
        out[at, : len(row)] = row
    return out
