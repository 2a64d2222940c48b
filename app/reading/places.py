"""Converts between a neuron's index over all layers and its layer and index in it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


class Places:
    """The neurons of a run, given the width of each layer."""

    def __init__(self, widths: Sequence[int]) -> None:
        self.widths = widths
        self.first = list(accumulate(widths, initial=0))
        """The index of each layer's first neuron; the last entry is the number of neurons."""

    @property
    def total(self) -> int:
        """Neurons in all layers."""
        return self.first[-1]

    def index(self, layer: int, neuron: int) -> int:
        """The index over all layers; the neuron has to exist."""
        return self.first[layer] + neuron

    def of(self, index: int) -> tuple[int, int]:
        """Layer and neuron at an index over all layers, which has to exist."""
        layer = bisect_right(self.first, index) - 1
        return layer, index - self.first[layer]
