"""A neuron's index over all layers, and its layer and index within it."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from app.schemas import NeuronRef


class Places:
    """Where neurons are, by their index counted over all layers."""

    def __init__(self, widths: list[int]) -> None:
        self.offsets = list(accumulate(widths, initial=0))

    def of(self, flat: int) -> tuple[int, int]:
        """Layer and neuron."""
        layer = bisect_right(self.offsets, flat) - 1
        return layer, flat - self.offsets[layer]


def place(widths: list[int], flat: int) -> NeuronRef | None:
    """The address of a flat index; None before the first and after the last neuron."""
    if flat < 0:
        return None
    for layer, width in enumerate(widths):
        if flat < width:
            return NeuronRef(layer=layer, neuron=flat)
        flat -= width
    return None
