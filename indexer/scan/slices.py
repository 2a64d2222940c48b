"""Which layers are scanned in one pass: all, or slices where memory does not hold their state."""

from __future__ import annotations

from indexer import memory
from indexer.errors import NeurariumError
from indexer.memory import readable_bytes
from indexer.scan.shape import ScanShape

SHARE = 0.7
"""The share of memory free after loading the model that the scan may use; the rest is for the
forward pass."""


def choose_slices(shape: ScanShape, allowed: int | None = None) -> tuple[tuple[int, int], ...]:
    """First layer and end of each slice, each with as many layers as `allowed` bytes hold.

    `allowed` None means most of the free memory. Raises NeurariumError if one layer does not fit.
    """
    allowed = allowed_bytes(allowed)
    if allowed is None or shape.bytes_held() <= allowed:
        return ((0, len(shape.widths)),)
    slices: list[tuple[int, int]] = []
    first = 0
    while first < len(shape.widths):
        end = first + 1
        if (needed := shape.slice(first, end).bytes_held()) > allowed:
            raise NeurariumError(
                f"Layer {first} alone needs {readable_bytes(needed)} of memory beside the model, "
                f"and there are {readable_bytes(allowed)}: lower --sample, --top-k or --bottom-k, "
                "set a --window, or allow more with --memory."
            )
        while end < len(shape.widths) and shape.slice(first, end + 1).bytes_held() <= allowed:
            end += 1
        slices.append((first, end))
        first = end
    return tuple(slices)


def allowed_bytes(allowed: int | None) -> int | None:
    """The bytes that states may take: as given, or most of the free memory; None where that is not
    known."""
    if allowed is not None:
        return allowed
    free = memory.available()
    return None if free is None else int(SHARE * free)
