"""Which layers are scanned at a time: all, or where memory does not hold their state, slices."""

from __future__ import annotations

from indexer import memory
from indexer.errors import NeurariumError
from indexer.memory import readable_bytes
from indexer.scan.shape import ScanShape

SHARE = 0.7
"""Of the memory that is free when the model is loaded: the rest is for its forward pass."""


def choose_slices(shape: ScanShape, allowed: int | None = None) -> tuple[tuple[int, int], ...]:
    """First layer and end of each slice: as many layers as `allowed` bytes hold (None: most of what
    is free).

    Raises NeurariumError where one layer alone does not fit.
    """
    if allowed is None:
        free = memory.available()
        allowed = None if free is None else int(SHARE * free)
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
