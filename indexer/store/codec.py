"""Arrays ↔ bytes: how examples, histograms and lists are packed into one column each. Pure.

All numbers are little-endian. A packed value begins with a one-byte format number, so that a
later format can be told from this one.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard
from jaxtyping import Float32, Int8, Int64, UInt16

FORMAT = 1
_LEVEL = 1  # of zstd: activations get no smaller above it

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ExampleArrays:
    """Examples of one neuron and one kind, best first, as a struct of arrays.

    `n` is the number of examples; row i of the activations has `lengths[i]` entries, the context's
    positions from `starts[i]` on, all rows one after the other.
    """

    peaks: Float32[np.ndarray, " n"]
    peak_positions: UInt16[np.ndarray, " n"]
    troughs: Float32[np.ndarray, " n"]
    trough_positions: UInt16[np.ndarray, " n"]
    context_ids: Int64[np.ndarray, " n"]
    starts: UInt16[np.ndarray, " n"]
    lengths: UInt16[np.ndarray, " n"]
    scales: Float32[np.ndarray, " n"]
    gates: Float32[np.ndarray, " n"]
    """Gated models: the gate before its nonlinearity, at the peak (bottom examples: the trough)."""
    linears: Float32[np.ndarray, " n"]
    """Gated models: the linear part at the same place. NaN, as `gates`, where there is none."""
    quantized: Int8[np.ndarray, " total"]

    def __len__(self) -> int:
        return len(self.peaks)


_FIELDS: tuple[tuple[str, str], ...] = (
    ("peaks", "<f4"),
    ("peak_positions", "<u2"),
    ("troughs", "<f4"),
    ("trough_positions", "<u2"),
    ("context_ids", "<i8"),
    ("starts", "<u2"),
    ("lengths", "<u2"),
    ("scales", "<f4"),
    ("gates", "<f4"),
    ("linears", "<f4"),
)

NEURON_ARRAYS: dict[str, str] = {
    "peak_quantiles": "<f8",
    "histogram_range": "<f8",  # first edge, width of a bin; so of all ranges
    "histogram_counts": "<i4",
    "peak_histogram_range": "<f8",
    "peak_histogram_counts": "<i4",
    "band_cuts": "<f8",
    "band_counts": "<i8",
    "source_mean_peaks": "<f8",  # one a source slot; NaN: none of it in the sample
    "sign_counts": "<i8",  # (gate > 0, linear > 0): both, gate only, linear only, neither
    "together_neurons": "<i4",  # flat indices; so of all lists of neurons
    "together_values": "<f4",
    "logit_values": "<f4",  # k promoted, then k suppressed; so of all lists of tokens
    "logit_token_ids": "<i4",
    "effect_histogram_range": "<f8",
    "effect_histogram_counts": "<i4",
    "effect_moments": "<f8",  # mean, standard deviation
    "in_values": "<f4",
    "in_token_ids": "<i4",
    "gate_values": "<f4",
    "gate_token_ids": "<i4",
    "alike_neurons": "<i4",
    "alike_values": "<f4",
    "upstream_neurons": "<i4",
    "upstream_values": "<f4",
    "upstream_parts": "u1",  # what is read: 0 the linear part, 1 the gate
    "downstream_neurons": "<i4",
    "downstream_values": "<f4",
    "downstream_parts": "u1",
}
"""The small arrays of a neuron and how their numbers are stored. Not known: empty."""

LAYER_ARRAYS: dict[str, str] = {"max_quantiles": "<f8", "density_quantiles": "<f8"}
"""The small arrays of a layer: quantiles over its neurons, 0 to 100% in steps of 5%."""


def examples_bytes(examples: ExampleArrays) -> bytes:
    """Examples as canonical bytes, not compressed: what a content hash is taken over."""
    body = b"".join(
        np.ascontiguousarray(getattr(examples, name), dtype=dtype).tobytes()
        for name, dtype in _FIELDS
    )
    quantized: bytes = examples.quantized.astype("<i1").tobytes()
    return struct.pack("<I", len(examples)) + body + quantized


def pack_examples(examples: ExampleArrays) -> bytes:
    """Bytes for one `examples` row: format, then number of examples and the arrays, compressed."""
    return bytes([FORMAT]) + zstandard.compress(examples_bytes(examples), _LEVEL)


def unpack_examples(packed: bytes) -> ExampleArrays:
    """The inverse of `pack_examples`. Raises ValueError where the bytes are not its work."""
    raw = _decompressed(packed)
    (count,) = struct.unpack_from("<I", raw)
    offset = 4
    arrays: dict[str, Array] = {}
    for name, dtype in _FIELDS:
        arrays[name] = np.frombuffer(raw, dtype, count, offset)
        offset += arrays[name].nbytes
    quantized = np.frombuffer(raw, "<i1", offset=offset)
    if len(quantized) != int(arrays["lengths"].sum(dtype=np.int64)):
        raise ValueError("A packed example list does not hold as many activations as it says.")
    return ExampleArrays(quantized=quantized, **arrays)


def quantize(
    activations: Float32[np.ndarray, "n pos"], included: np.ndarray[Any, np.dtype[np.bool_]]
) -> tuple[Int8[np.ndarray, "n pos"], Float32[np.ndarray, " n"]]:
    """Activations as 8-bit integers with one scale a row; 0 where a position is not included.

    The error of value ≈ integer × scale is at most 1/254 of the row's largest |activation| over
    its included positions.
    """
    kept = np.where(included, activations, np.float32(0))
    largest = np.abs(kept).max(axis=1, initial=0)
    scales = (largest / 127).astype(np.float32)
    # A magnitude near the smallest float32 divides to a scale of 0: then all is stored as 0.
    safe = np.where(scales > 0, scales, np.float32(1))
    integers = np.rint(kept / safe[:, None])
    integers = np.where(scales[:, None] > 0, np.clip(integers, -127, 127), 0)
    return integers.astype(np.int8), scales


def activations_of(examples: ExampleArrays, index: int) -> Float32[np.ndarray, " length"]:
    """Activations of one example's window, clipped to its exact peak and trough."""
    first = int(examples.lengths[:index].sum(dtype=np.int64))
    row = examples.quantized[first : first + int(examples.lengths[index])]
    values = row.astype(np.float32) * examples.scales[index]
    clipped: Float32[np.ndarray, " length"] = np.clip(
        values, examples.troughs[index], examples.peaks[index]
    )
    return clipped


def pack_numbers(values: Array) -> bytes:
    """One small array as bytes: format, length of the dtype's name, the name, the values."""
    kind = values.dtype.newbyteorder("<").str.encode()
    body: bytes = values.astype(kind.decode()).tobytes()
    header: bytes = bytes([FORMAT, len(kind)]) + kind
    return header + body


def unpack_numbers(packed: bytes) -> Array:
    """The inverse of `pack_numbers`."""
    if packed[:1] != bytes([FORMAT]):
        raise ValueError("A packed array has an unknown format.")
    end = 2 + packed[1]
    values: Array = np.frombuffer(packed, packed[2:end].decode(), offset=end)
    return values


def arrays_bytes(arrays: Mapping[str, Array], names: Mapping[str, str]) -> bytes:
    """Named arrays as canonical bytes, not compressed; `names` gives their order and dtypes.

    Raises KeyError for an array whose name is not among them.
    """
    unknown = arrays.keys() - names.keys()
    if unknown:
        raise KeyError(f"no such arrays: {', '.join(sorted(unknown))}")
    out = []
    for index, (name, dtype) in enumerate(names.items()):
        values = arrays.get(name)
        if values is not None and len(values):
            out.append(struct.pack("<BH", index, len(values)))
            out.append(np.asarray(values).astype(dtype, copy=False).tobytes())
    return b"".join(out)


def pack_arrays(arrays: Mapping[str, Array], names: Mapping[str, str] = NEURON_ARRAYS) -> bytes:
    """Bytes for one column of named arrays, compressed. Raises as `arrays_bytes`."""
    return bytes([FORMAT]) + zstandard.compress(arrays_bytes(arrays, names), _LEVEL)


def unpack_arrays(packed: bytes, names: Mapping[str, str] = NEURON_ARRAYS) -> dict[str, Array]:
    """The inverse of `pack_arrays`: every name, those that were not known with an empty array."""
    raw = _decompressed(packed)
    order = list(names.items())
    arrays = {name: np.empty(0, dtype) for name, dtype in order}
    offset = 0
    while offset < len(raw):
        index, count = struct.unpack_from("<BH", raw, offset)
        name, dtype = order[index]
        arrays[name] = np.frombuffer(raw, dtype, count, offset + 3)
        offset += 3 + arrays[name].nbytes
    return arrays


def pack_token_ids(token_ids: Array) -> bytes:
    """A context's token ids as bytes, 4 each."""
    body: bytes = np.asarray(token_ids).astype("<u4").tobytes()
    return body


def unpack_token_ids(packed: bytes) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """The inverse of `pack_token_ids`."""
    return np.frombuffer(packed, "<u4")


def _decompressed(packed: bytes) -> bytes:
    if packed[:1] != bytes([FORMAT]):
        raise ValueError("A packed value has an unknown format.")
    try:
        return zstandard.decompress(packed[1:])
    except zstandard.ZstdError as error:
        raise ValueError(f"A packed value cannot be unpacked: {error}.") from None
