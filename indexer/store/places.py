"""Where units are: their index counted over all layers, and their layer and index within it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

import numpy as np
from jaxtyping import Int64


class Places:
    """The flat indices of a model's units, layer after layer."""

    def __init__(self, widths: Iterable[int]) -> None:
        """`widths` are the units of each layer."""
        self.offsets = list(accumulate(widths, initial=0))
        """The flat index of each layer's first unit, and at the end the number of all units."""

    def __len__(self) -> int:
        """The number of all units."""
        return self.offsets[-1]

    def index(self, layer: int, unit: int) -> int:
        """The flat index of a unit that exists, from its layer and the index within it."""
        return self.offsets[layer] + unit

    def of(self, flat: int) -> tuple[int, int]:
        """The layer and the index within it. Raises IndexError where there is no such unit."""
        if not 0 <= flat < len(self):
            raise IndexError(flat)
        layer = bisect_right(self.offsets, flat) - 1
        return layer, flat - self.offsets[layer]

    def of_all(
        self, flat: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """The layers and the indices within them, of units that exist."""
        offsets = np.array(self.offsets, np.int64)
        layers = np.searchsorted(offsets, flat, side="right") - 1
        return layers, flat - offsets[layers]

    def layer(self, layer: int) -> slice:
        """The flat indices of a layer."""
        return slice(self.offsets[layer], self.offsets[layer + 1])
