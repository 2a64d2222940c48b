"""Packs the neurons of a context and the neurons of a token into one column each, little-endian."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from indexer.store.packing.codec import Packer, decompressed

Array = np.ndarray[Any, Any]

PLACE = np.dtype([("neuron", "<i4"), ("kind", "u1"), ("position", "<u2"), ("value", "<f4")])
"""A neuron that has a context as an example: its flat index, the kind (in `schema.KINDS`), the
position of the peak (for bottom examples, the trough) and the activation there."""
_FORMAT = 1


def pack_places(places: Array, sizes: Sequence[int], packer: Packer) -> list[bytes]:
    """Bytes for `contexts.neurons` of each context.

    Args:
        places: concatenated `PLACE` rows, in each context by neuron, a bottom example last.
        sizes: rows of each context.
        packer: compresses.

    After a format byte come the byte planes of the rows, with each neuron as the difference from
    the previous row.
    """
    ends = np.cumsum([0, *sizes])
    steps = places.copy()
    steps["neuron"][1:] -= places["neuron"][:-1]
    first = ends[:-1][np.diff(ends) > 0]
    steps["neuron"][first] = places["neuron"][first]
    rows = steps.view(np.uint8).reshape(-1, PLACE.itemsize)
    return [
        bytes([_FORMAT]) + packer.fast(rows[begin:end].T.tobytes())
        for begin, end in pairwise(ends.tolist())
    ]


def unpack_places(packed: bytes) -> Array:
    """The `PLACE` rows [examples] of one context, the inverse of `pack_places`. Raises ValueError
    for other bytes."""
    if packed[:1] != bytes([_FORMAT]):
        raise ValueError("A context's neurons have an unknown format.")
    planes = np.frombuffer(decompressed(packed[1:]), np.uint8)
    rows, rest = divmod(len(planes), PLACE.itemsize)
    if rest:
        raise ValueError("A context's neurons have an incomplete row.")
    places = np.array(planes.reshape(PLACE.itemsize, rows).T, order="C").reshape(-1).view(PLACE)
    places["neuron"] = np.cumsum(places["neuron"])
    return places


def pack_tokens(
    neurons: Int32[np.ndarray, " n"],
    values: Float32[np.ndarray, " n"],
    counts: Int32[np.ndarray, " n"],
    sizes: Int64[np.ndarray, " tokens"],
    counted: Bool[np.ndarray, " tokens"],
) -> list[bytes]:
    """Bytes for `token_neurons.packed` of each token: neurons, values, then counts if `counted`.

    `sizes` are the neurons of each token; the first three arrays are concatenated over the tokens.
    The bytes are not compressed: most tokens have too few neurons for that to help.
    """
    ends = np.cumsum(np.where(counted, 3, 2) * sizes)
    begins = ends - np.where(counted, 3, 2) * sizes
    out = np.empty(int(ends[-1]) if len(ends) else 0, "<i4")
    at = np.repeat(begins - (np.cumsum(sizes) - sizes), sizes) + np.arange(len(neurons))
    step, with_count = np.repeat(sizes, sizes), np.repeat(counted, sizes)
    out[at] = neurons
    out[at + step] = values.astype("<f4", copy=False).view("<i4")
    out[(at + 2 * step)[with_count]] = counts[with_count]
    content = out.tobytes()
    return [
        content[begin:end]
        for begin, end in zip((4 * begins).tolist(), (4 * ends).tolist(), strict=True)
    ]


def unpack_token(
    packed: bytes, neurons: int
) -> tuple[Int32[np.ndarray, " n"], Float32[np.ndarray, " n"], Int32[np.ndarray, " n"] | None]:
    """Neurons, values and, if stored, counts of one token, from bytes of `pack_tokens`. Raises
    ValueError if there are not `neurons` of them."""
    numbers = np.frombuffer(packed, "<i4")
    if not neurons or len(numbers) not in (2 * neurons, 3 * neurons):
        raise ValueError("A packed token does not have the stated number of neurons.")
    ids, values, *counts = numbers.reshape(-1, neurons)
    return ids, values.view("<f4"), counts[0] if counts else None
