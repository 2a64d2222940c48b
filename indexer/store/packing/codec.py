"""Packs examples, histograms and lists into one column each, and unpacks them.

`layout` defines the bytes before compression. All numbers are little-endian. A packed value begins
with a one-byte format number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import zstandard
from jaxtyping import Float32, Float64, Int8, Int64, UInt16

from indexer.store.packing import layout
from indexer.store.packing.layout import Columns

FORMAT = 2
_LEVEL = 1
"""zstd level for activations; higher levels do not make them smaller."""
_FAST = -1
"""zstd level for byte planes: mostly runs and random bits, where entropy coding gains nothing."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ExampleArrays:
    """The `n` examples of one neuron and kind, best first, as a struct of arrays.

    `quantized` is the concatenation of the examples' windows: window i covers `lengths[i]`
    positions of its context from `starts[i]` on.
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
    """Gated models: the gate before its nonlinearity, at the peak (bottom: at the trough)."""
    linears: Float32[np.ndarray, " n"]
    """Gated models: the linear part at the same position. NaN, like `gates`, for other models."""
    quantized: Int8[np.ndarray, " total"]

    def __len__(self) -> int:
        return len(self.peaks)


NEURON_ARRAYS: dict[str, str] = {
    "peak_quantiles": "<f8",
    "histogram_range": "<f8",  # first edge, bin width; likewise for all ranges
    "histogram_counts": "<i4",
    "peak_histogram_range": "<f8",
    "peak_histogram_counts": "<i4",
    "band_cuts": "<f8",
    "band_counts": "<i8",
    "source_mean_peaks": "<f8",  # per source slot; NaN: none in the sample
    "sign_counts": "<i8",  # (gate > 0, linear > 0): both, gate only, linear only, neither
    "together_neurons": "<i4",  # flat indices; likewise for all lists of neurons
    "together_values": "<f4",
    "logit_values": "<f4",  # k promoted, then k suppressed
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
    "upstream_parts": "u1",  # reading part: 0 linear, 1 gate
    "downstream_neurons": "<i4",
    "downstream_values": "<f4",
    "downstream_parts": "u1",
    "sample_peaks": "<f2",  # in the sample's first contexts, in units of `peak_unit`
    "source_peak_counts": "<i4",  # `peak_histogram_counts` of each source slot, one after the other
    "encoder_neurons": "<i4",  # of the layer, by the cosine of what they read
    "encoder_values": "<f4",
    "aligned_neurons": "<i4",  # the model's MLP neurons, by the cosine of what is written
    "aligned_values": "<f4",
    "name": "u1",  # UTF-8
    "threshold": "<f8",
}
LATER_ARRAYS = 6
"""The last ones: runs in which no unit has them are stored as if they did not exist."""
"""The small arrays of a neuron, with their stored types. Unknown arrays are empty."""

LAYER_ARRAYS: dict[str, str] = {"max_quantiles": "<f8", "density_quantiles": "<f8"}
"""The small arrays of a layer: quantiles over its neurons, from 0 to 100% in steps of 5%."""


class Packer:
    """Compresses bytes of `layout`. Not thread-safe."""

    def __init__(self) -> None:
        self._compress = zstandard.ZstdCompressor(level=_LEVEL).compress
        self.fast = zstandard.ZstdCompressor(level=_FAST).compress
        """Compresses byte planes."""

    def lists(self, head: bytes, activations: bytes) -> bytes:
        """Bytes for one row of `examples`. Compressed separately, the two parts are smaller."""
        first = self.fast(head)
        return struct.pack("<BI", FORMAT, len(first)) + first + self._compress(activations)

    def arrays(self, laid_out: bytes) -> bytes:
        """Bytes for a column of named arrays."""
        return bytes([FORMAT]) + self.fast(laid_out)


def unpack_lists(packed: bytes) -> list[ExampleArrays]:
    """The lists of one row of `examples`: consecutive kinds of one neuron, made by `Packer.lists`.

    Raises ValueError for other bytes.
    """
    head, quantized = _parts(packed)
    try:
        return _lists(head, np.frombuffer(quantized, "<i1"))
    except (IndexError, struct.error) as error:
        raise ValueError(f"A packed list of examples is damaged: {error}.") from None


def unpack_kinds(rows: Iterable[tuple[int, bytes]]) -> dict[int, ExampleArrays]:
    """The non-empty lists of one neuron by kind, from its rows of `examples`. Raises ValueError for
    other bytes.

    A row has lists of consecutive kinds, beginning with its own.
    """
    return {
        kind + index: examples
        for kind, packed in rows
        for index, examples in enumerate(unpack_lists(bytes(packed)))
        if len(examples)
    }


def canonical_lists(packed: bytes) -> bytes:
    """The bytes of one row of `examples` before compression. Raises ValueError for other bytes."""
    head, activations = _parts(packed)
    return head + activations


def canonical_arrays(packed: bytes) -> bytes:
    """The bytes of a column of named arrays before compression. Raises ValueError for other
    bytes."""
    if packed[:1] != bytes([FORMAT]):
        raise ValueError("A packed value has an unknown format.")
    return decompressed(packed[1:])


def _parts(packed: bytes) -> tuple[bytes, bytes]:
    if packed[:1] != bytes([FORMAT]) or len(packed) < 5:
        raise ValueError("A packed list of examples has an unknown format.")
    (size,) = struct.unpack_from("<I", packed, 1)
    return decompressed(packed[5 : 5 + size]), decompressed(packed[5 + size :])


def _lists(head: bytes, quantized: Int8[np.ndarray, " total"]) -> list[ExampleArrays]:
    reader = _Planes(head, 1)
    counts = reader.read("<u2", head[0]).tolist()
    (count,) = reader.read("<u2", 1).tolist()
    back = reader.read("<u2", sum(counts)).tolist()
    fields = {name: reader.read(dtype, count) for name, dtype in layout.FIELDS.items()}
    expected = layout.expected_scales(fields["peaks"], fields["troughs"])
    fields["scales"] = (fields["scales"].view("<u4") ^ expected.view("<u4")).view("<f4")
    ends = [0, *accumulate(fields["lengths"].tolist())]
    if len(quantized) != ends[-1]:
        raise ValueError("A packed list of examples does not have as many activations as stated.")
    distinct = ExampleArrays(quantized=quantized, **fields)
    lists, seen = [], 0
    for first, end in pairwise([0, *accumulate(counts)]):
        before, places = seen, []
        for step in back[first:end]:
            places.append(seen - step if step else seen)
            seen += not step
        if places and not (min(places) >= 0 and seen <= count):
            raise ValueError("A packed list of examples refers to a missing example.")
        if seen - before == len(places):  # all are new, and so stored consecutively
            activations = slice(ends[before], ends[seen])
            lists.append(_sliced(distinct, slice(before, seen), activations))
        else:
            lists.append(_at(distinct, places, ends))
    return lists


def _sliced(distinct: ExampleArrays, where: slice, activations: slice) -> ExampleArrays:
    fields = {name: getattr(distinct, name)[where] for name in layout.FIELDS}
    return ExampleArrays(quantized=distinct.quantized[activations], **fields)


def _at(distinct: ExampleArrays, places: list[int], ends: list[int]) -> ExampleArrays:
    fields = {name: getattr(distinct, name)[places] for name in layout.FIELDS}
    rows = [distinct.quantized[ends[place] : ends[place + 1]] for place in places]
    return ExampleArrays(quantized=np.concatenate(rows), **fields)


class _Planes:
    """Reads arrays stored as byte planes, one after the other."""

    def __init__(self, raw: bytes, offset: int) -> None:
        self._bytes = np.frombuffer(raw, np.uint8)
        self._offset = offset

    def read(self, dtype: str, count: int) -> Array:
        """The next `count` numbers. Raises ValueError if fewer are left."""
        size = int(dtype[-1])
        end = self._offset + count * size
        if end > len(self._bytes):
            raise ValueError("A packed value ends too early.")
        planes = self._bytes[self._offset : end].reshape(size, count)
        self._offset = end
        values: Array = planes.T.copy().view(dtype).reshape(count)
        return values


def quantize(
    activations: Float32[np.ndarray, "n pos"], included: np.ndarray[Any, np.dtype[np.bool_]]
) -> tuple[Int8[np.ndarray, "n pos"], Float32[np.ndarray, " n"]]:
    """Activations as 8-bit integers with one scale per row; 0 at excluded positions.

    The error of integer × scale is at most 1/254 of the row's largest included |activation|.
    """
    return quantize_in_place(np.where(included, activations, np.float32(0)))


def quantize_in_place(
    values: Float32[np.ndarray, "n pos"],
) -> tuple[Int8[np.ndarray, "n pos"], Float32[np.ndarray, " n"]]:
    """As `quantize`, for values that are 0 at excluded positions. Overwrites `values`."""
    largest = np.maximum(values.max(axis=1, initial=0), -values.min(axis=1, initial=0))
    scales = largest / np.float32(127)
    # Magnitudes near the smallest float32 give a scale of 0: then all values are stored as 0.
    values /= np.where(scales > 0, scales, np.float32(1))[:, None]
    np.rint(values, out=values)
    if (scales < np.finfo(np.float32).tiny).any():  # the scale itself is rounded coarsely
        np.clip(values, -127, 127, out=values)
        values[scales == 0] = 0
    return values.astype(np.int8), scales


def activations_of(
    examples: ExampleArrays,
) -> tuple[Float32[np.ndarray, " total"], Int64[np.ndarray, " n+1"]]:
    """The concatenated activations of all examples, clipped to the exact peaks and troughs, and the
    bounds of the examples: example i is values[bounds[i] : bounds[i + 1]].
    """
    lengths = examples.lengths.astype(np.int64)
    values = dequantized(
        examples.quantized, lengths, examples.scales, examples.troughs, examples.peaks
    )
    return values, np.concatenate([[0], np.cumsum(lengths)])


def dequantized(
    quantized: Int8[np.ndarray, " total"],
    lengths: Int64[np.ndarray, " n"],
    scales: Float32[np.ndarray, " n"],
    low: Float32[np.ndarray, " n"],
    high: Float32[np.ndarray, " n"],
) -> Float32[np.ndarray, " total"]:
    """The concatenated activations of n examples, each clipped to its `low` and `high`."""
    values = quantized.astype(np.float32) * np.repeat(scales, lengths)
    clipped: Float32[np.ndarray, " total"] = np.minimum(
        np.maximum(values, np.repeat(low, lengths)), np.repeat(high, lengths)
    )
    return clipped


def pack_arrays(arrays: Mapping[str, Array], names: Mapping[str, str] = NEURON_ARRAYS) -> bytes:
    """Bytes for a column of named arrays. Raises KeyError for a name that is not in `names`."""
    rows = {name: Columns(np.asarray(values).reshape(1, -1)) for name, values in arrays.items()}
    later = LATER_ARRAYS if names is NEURON_ARRAYS else 0
    (laid_out,) = layout.arrays_bytes(1, rows, names, later)
    return Packer().arrays(laid_out)


def unpack_arrays(packed: bytes, names: Mapping[str, str] = NEURON_ARRAYS) -> dict[str, Array]:
    """The inverse of `pack_arrays`, with an empty array for each missing name.

    Raises ValueError for other bytes.
    """
    raw = canonical_arrays(packed)
    reader = _Planes(raw, 1)
    lengths = dict(zip(names, reader.read("<u2", raw[0]).tolist(), strict=False))
    if raw[0] > len(names):
        raise ValueError("A packed value has arrays that this version does not know.")
    arrays: dict[str, Array] = {}
    for dtype, typed in layout.types_of(names):
        counts = [lengths.get(name, 0) for name in typed]
        values, first = reader.read(dtype, sum(counts)), 0
        for name, count in zip(typed, counts, strict=True):
            arrays[name] = values[first : first + count]
            first += count
    return {name: arrays[name] for name in names}


def pack_counts(counts: Int64[np.ndarray, " n"]) -> bytes:
    """Bytes for a column of counts, of any number."""
    return bytes([FORMAT]) + zstandard.compress(counts.astype("<i8").tobytes(), _LEVEL)


def unpack_counts(packed: bytes) -> Int64[np.ndarray, " n"]:
    """The inverse of `pack_counts`. Raises ValueError for other bytes."""
    if packed[:1] != bytes([FORMAT]):
        raise ValueError("A packed value has an unknown format.")
    return np.frombuffer(decompressed(packed[1:]), "<i8")


def peak_unit(
    low: Float64[np.ndarray, " neurons"], high: Float64[np.ndarray, " neurons"]
) -> Float64[np.ndarray, " neurons"]:
    """The unit of `sample_peaks`: the smallest power of two above a neuron's |activations|, given
    its minimum and maximum. 1 if both are 0."""
    _, exponent = np.frexp(np.maximum(np.abs(low), np.abs(high)))
    unit: Float64[np.ndarray, " neurons"] = np.ldexp(1.0, exponent)
    return unit


def pack_token_ids(token_ids: Array) -> bytes:
    """Token ids [pos] as little-endian uint32."""
    body: bytes = np.asarray(token_ids).astype("<u4").tobytes()
    return body


def unpack_token_ids(packed: bytes) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Token ids [pos], the inverse of `pack_token_ids`."""
    return np.frombuffer(packed, "<u4")


def decompressed(frame: bytes) -> bytes:
    """The content of a zstd frame. Raises ValueError if it is damaged."""
    try:
        return zstandard.decompress(frame)
    except zstandard.ZstdError as error:
        raise ValueError(f"A packed value cannot be unpacked: {error}.") from None
