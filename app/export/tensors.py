"""Peaks and what weights say as safetensors: numbers only, one array a layer and name.

The format begins with a head that names every array and its place, so arrays wait in files without
a name until all layers are there: memory holds one layer. The format is described by the README of
the repository huggingface/safetensors.
"""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np

from app.reading.store import Reading
from app.reading.unit_names import has_names, unit_names
from indexer.store import schema
from indexer.store.packing.codec import peak_unit
from indexer.store.transfer.records import StoredNeuron, read_neurons
from indexer.store.writing.content import SCALARS

Array = np.ndarray[Any, Any]

_LISTS = ("logit", "in", "gate")
_TYPES = {"f8": "F64", "f4": "F32", "i4": "I32"}
_SIZES = (8, 4)
"""Bytes of a number: the larger ones come first, so that every array is aligned."""


def write_tensors(
    file: Any, reading: Reading, ranges: Iterable[tuple[int, int]], progress: Callable[[int], None]
) -> None:
    """Write a safetensors file of the neurons in `ranges` of ascending indices over all layers."""
    run = reading.run
    metadata = {
        "model": run.model,
        "hook_point": run.hook_point,
        "corpus": run.corpus,
        "content_hash": run.content_hash,
        "set": run.set_name,
        **_names(reading),
    }
    neurons = _counted(read_neurons(reading.connection, run.id, ranges), progress)
    with ExitStack() as stack:
        spools = {size: stack.enter_context(tempfile.TemporaryFile()) for size in _SIZES}
        places: dict[int, list[tuple[str, dict[str, Any]]]] = {size: [] for size in _SIZES}
        for layer, of_layer in groupby(neurons, attrgetter("layer")):
            for name, array in _layer(of_layer).items():
                size = array.dtype.itemsize
                begin = spools[size].tell()
                spools[size].write(array.tobytes())
                kind = _TYPES[array.dtype.str[1:]]
                place = {"dtype": kind, "shape": array.shape, "data_offsets": (begin, array.nbytes)}
                places[size].append((f"{layer}.{name}", place))
        file.write(_head(metadata, places, {size: spools[size].tell() for size in _SIZES}))
        for size in _SIZES:
            spools[size].seek(0)
            shutil.copyfileobj(spools[size], file)


def _names(reading: Reading) -> dict[str, str]:
    """Names of units as JSON: by layer, each with a list, null where a unit has none. Nothing for
    sets without names."""
    if not has_names(reading):
        return {}
    known = unit_names(reading).by_index
    names = {
        str(layer): [known.get(reading.places.index(layer, unit)) for unit in range(width)]
        for layer, width in enumerate(reading.run.widths)
        if width
    }
    return {"names": json.dumps(names, ensure_ascii=False)}


def _head(
    metadata: Mapping[str, str],
    places: Mapping[int, Sequence[tuple[str, dict[str, Any]]]],
    sizes: Mapping[int, int],
) -> bytes:
    """The head: its length, and JSON padded with blanks to a multiple of eight bytes."""
    known: dict[str, Any] = {"__metadata__": metadata}
    before = 0
    for size in _SIZES:
        for name, place in places[size]:
            begin, length = place["data_offsets"]
            first = before + begin
            known[name] = place | {"data_offsets": (first, first + length)}
        before += sizes[size]
    content = json.dumps(known).encode()
    content += b" " * (-len(content) % 8)
    return struct.pack("<Q", len(content)) + content


def _counted(
    parts: Iterable[Sequence[StoredNeuron]], progress: Callable[[int], None]
) -> Iterator[StoredNeuron]:
    done = 0
    for part in parts:
        yield from part
        done += len(part)
        progress(done)


def _layer(neurons: Iterable[StoredNeuron]) -> dict[str, Array]:
    """The arrays of a layer, [neurons] or [neurons, m]; short rows end with NaN or −1."""
    columns: dict[str, list[Array]] = {}
    for neuron in neurons:
        for name, values in _arrays(neuron).items():
            columns.setdefault(name, []).append(values)
    return {name: _stacked(rows) for name, rows in columns.items()}


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
    """Rows of different lengths as one array [rows, longest], padded with NaN or −1."""
    if not rows[0].ndim:
        return np.stack(rows)
    width = max(len(row) for row in rows)
    fill = np.nan if rows[0].dtype.kind == "f" else -1
    out = np.full((len(rows), width), fill, rows[0].dtype)
    for at, row in enumerate(rows):
        out[at, : len(row)] = row
    return out
