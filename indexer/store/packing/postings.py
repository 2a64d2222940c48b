"""What contexts and tokens say of neurons ↔ bytes: one column each. Pure, little-endian."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from indexer.store.packing.codec import Packer, decompressed

Array = np.ndarray[Any, Any]

PLACE = np.dtype([("neuron", "<i4"), ("kind", "u1"), ("position", "<u2"), ("value", "<f4")])
"""An example as its context has it: the neuron's flat index, the kind in `schema.KINDS`, the
position of the peak (bottom: of the trough), the activation there."""
_FORMAT = 1


def pack_places(places: Array, sizes: Sequence[int], packer: Packer) -> list[bytes]:
    """Bytes for `contexts.neurons` of contexts that have `sizes` places each, one context after
    the other. `places`: `PLACE`, in each context by neuron, its bottom example last.

    After a format byte: all first bytes, all second bytes, and so on, of n rows whose neuron is
    the step from the one before; there may be more of them than a neuron's array can have.
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
    """What `pack_places` made of one context. Raises ValueError."""
    if packed[:1] != bytes([_FORMAT]):
        raise ValueError("A context's neurons have an unknown format.")
    planes = np.frombuffer(decompressed(packed[1:]), np.uint8)
    rows, rest = divmod(len(planes), PLACE.itemsize)
    if rest:
        raise ValueError("A context's neurons are no whole number of them.")
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
    """Bytes for `token_neurons.packed` of tokens that have `sizes` neurons each, best first, one
    token after the other: neurons, values and, where a token is `counted`, counts.

    As they are: there are many tokens, most with few neurons, whose numbers have nothing to be made
    smaller by.
    """
    ends = np.cumsum(np.where(counted, 3, 2) * sizes)
    begins = ends - np.where(counted, 3, 2) * sizes
    out = np.empty(int(ends[-1]) if len(ends) else 0, "<i4")
    at = np.repeat(begins - (np.cumsum(sizes) - sizes), sizes) + np.arange(len(neurons))
    step, mine = np.repeat(sizes, sizes), np.repeat(counted, sizes)
    out[at] = neurons
    out[at + step] = values.astype("<f4", copy=False).view("<i4")
    out[(at + 2 * step)[mine]] = counts[mine]
    spelled = out.tobytes()
    return [
        spelled[begin:end]
        for begin, end in zip((4 * begins).tolist(), (4 * ends).tolist(), strict=True)
    ]


def unpack_token(
    packed: bytes, neurons: int
) -> tuple[Int32[np.ndarray, " n"], Float32[np.ndarray, " n"], Int32[np.ndarray, " n"] | None]:
    """What `pack_tokens` made of one token. Raises ValueError where it has not so many neurons."""
    numbers = np.frombuffer(packed, "<i4")
    if not neurons or len(numbers) not in (2 * neurons, 3 * neurons):
        raise ValueError("A packed token has another number of neurons than it says.")
    ids, values, *counts = numbers.reshape(-1, neurons)
    return ids, values.view("<f4"), counts[0] if counts else None
