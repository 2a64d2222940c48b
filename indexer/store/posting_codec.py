"""What contexts and tokens say of neurons ↔ bytes: one column each. Pure, little-endian."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from indexer.store.codec import Packer, decompressed

Array = np.ndarray[Any, Any]

PLACE = np.dtype([("neuron", "<i4"), ("kind", "u1"), ("position", "<u2"), ("value", "<f4")])
"""An example as its context has it: the neuron's flat index, the kind in `schema.KINDS`, the
position of the peak (bottom: of the trough), the activation there."""
_FORMAT = 1


def pack_places(places: Array, packer: Packer) -> bytes:
    """Bytes for `contexts.neurons`. `places`: [n] of `PLACE`, by neuron, its bottom example last.

    After a format byte: all first bytes, all second bytes, and so on, of n rows whose neuron is
    the step from the one before; there may be more of them than a neuron's array can have.
    """
    steps = places.copy()
    steps["neuron"][1:] -= places["neuron"][:-1]
    planes = steps.view(np.uint8).reshape(-1, PLACE.itemsize).T
    return bytes([_FORMAT]) + packer.fast(planes.tobytes())


def unpack_places(packed: bytes) -> Array:
    """The inverse of `pack_places`. Raises ValueError."""
    if packed[:1] != bytes([_FORMAT]):
        raise ValueError("A context's neurons have an unknown format.")
    planes = np.frombuffer(decompressed(packed[1:]), np.uint8)
    rows, rest = divmod(len(planes), PLACE.itemsize)
    if rest:
        raise ValueError("A context's neurons are no whole number of them.")
    places = np.array(planes.reshape(PLACE.itemsize, rows).T, order="C").reshape(-1).view(PLACE)
    places["neuron"] = np.cumsum(places["neuron"])
    return places


def pack_token(
    neurons: Int32[np.ndarray, " n"],
    values: Float32[np.ndarray, " n"],
    counts: Int32[np.ndarray, " n"] | None,
) -> bytes:
    """The neurons of a token, best first, as they are: there are many tokens, most with few
    neurons, whose numbers have nothing to be made smaller by."""
    parts = [neurons.tobytes(), values.tobytes()]
    return b"".join(parts if counts is None else [*parts, counts.tobytes()])


def unpack_token(
    packed: bytes, neurons: int
) -> tuple[Int32[np.ndarray, " n"], Float32[np.ndarray, " n"], Int32[np.ndarray, " n"] | None]:
    """The inverse of `pack_token`. Raises ValueError where it is not of so many neurons."""
    numbers = np.frombuffer(packed, "<i4")
    if not neurons or len(numbers) not in (2 * neurons, 3 * neurons):
        raise ValueError("A packed token has another number of neurons than it says.")
    ids, values, *counts = numbers.reshape(-1, neurons)
    return ids, values.view("<f4"), counts[0] if counts else None
