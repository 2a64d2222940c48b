"""Where sparse units fire, and a uniform choice of the contexts in which each does.

Units of a sparse set are 0 at nearly all positions, so what is kept and computed follows the
positions at which they are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt32
from torch import Tensor

from indexer.measure.layer import LayerBatch
from indexer.store.sizes import FIRING_PEAKS

Array = np.ndarray[Any, Any]

_BLOCK = 1 << 20
"""Activations looked through at once."""
_LAST_RANK = np.uint32(0xFFFFFFFF)


def fired(seen: LayerBatch) -> dict[str, Tensor]:
    """Which values of a layer's batch are above 0, by flat index [m] in order, and the values.

    Padding and positions that are not included are among them. On a device this waits for it.
    """
    flat = seen.activations.reshape(-1)
    if seen.on_cpu:
        # In blocks that stay in the cache: the mask of a whole batch would be large.
        parts = enumerate(torch.split(flat, _BLOCK))
        found = [np.flatnonzero((part > 0).numpy()) + at * _BLOCK for at, part in parts]
        places = torch.from_numpy(np.concatenate(found))
    else:
        places = torch.nonzero(flat > 0)[:, 0]
    return {"places": places, "values": flat[places].float()}


@dataclass(frozen=True)
class Fired:
    """Where the units of one layer fire at a batch's included positions, by unit last."""

    contexts: Int64[np.ndarray, " m"]
    """Rows of the batch."""
    units: Int64[np.ndarray, " m"]
    values: Float32[np.ndarray, " m"]

    @classmethod
    def of(cls, seen: LayerBatch, found: dict[str, Array]) -> Fired:
        """From the arrays of `fired` on the host, `places` and `values` [m], without the positions
        that are not included."""
        _, positions, units = seen.activations.shape
        rows, unit = np.divmod(found["places"], units)
        context, position = np.divmod(rows, positions)
        counted = seen.batch.included[context, position]
        if not counted.all():
            context, unit = context[counted], unit[counted]
            return cls(context, unit, found["values"][counted])
        return cls(context, unit, found["values"])

    def counts(self, units: int) -> Int64[np.ndarray, " units"]:
        """Positions at which each of a layer's units fires."""
        return np.bincount(self.units, minlength=units)

    def powers(self, scale: Float32[np.ndarray, " units"]) -> Float64[np.ndarray, "4 units"]:
        """Sums of (value · scale)^p for p = 1…4, in float64, in the order of positions."""
        scaled = (self.values * scale[self.units]).astype(np.float64)
        sums = np.empty((4, len(scale)))
        power = np.ones(len(scaled))
        for index in range(4):
            power = power * scaled
            sums[index] = np.bincount(self.units, weights=power, minlength=len(scale))
        return sums


class FiringPeaks:
    """The peaks of each unit in the first `FIRING_PEAKS` contexts, by rank, in which it fires.

    The rank of a context is its place in the order of all contexts' hashes, so these contexts are a
    uniform choice, and the same in whatever order batches come. An entry's key falls as its rank
    rises; 0 is an empty place, so that memory of units that never fire is never touched.
    """

    def __init__(self, units: int) -> None:
        self.keys: UInt32[np.ndarray, "units k"] = np.zeros((units, FIRING_PEAKS), np.uint32)
        self.peaks: Float32[np.ndarray, "units k"] = np.zeros((units, FIRING_PEAKS), np.float32)
        self.counts = np.zeros(units, np.int32)
        self.floor = np.zeros(units, np.uint32)
        """Keys up to this cannot enter."""

    def arrays(self) -> dict[str, Array]:
        """All arrays by name."""
        return dict(vars(self))

    def clear(self, floor: UInt32[np.ndarray, " units"]) -> None:
        """Forget all entries. Later entries need keys above `floor`."""
        rows = np.flatnonzero(self.counts)
        self.keys[rows], self.peaks[rows], self.counts[rows] = 0, 0, 0
        self.floor[:] = floor

    def entering(
        self,
        where: slice,
        ranks: Int64[np.ndarray, " batch"],
        peaks: Float32[np.ndarray, "batch n"],
    ) -> tuple[Array, Array, Array]:
        """Units, keys and peaks [m] of a layer's batch that may enter; for `add`."""
        keys = keys_of(ranks)
        contexts, units = np.nonzero((peaks > 0) & (keys[:, None] > self.floor[where]))
        return units + where.start, keys[contexts], peaks[contexts, units]

    def add(
        self,
        units: Int64[np.ndarray, " m"],
        keys: UInt32[np.ndarray, " m"],
        peaks: Float32[np.ndarray, " m"],
    ) -> None:
        """Enter candidates, in any order, of contexts that are not in it."""
        above = keys > self.floor[units]
        order = np.argsort(units[above], kind="stable")
        units, keys, peaks = units[above][order], keys[above][order], peaks[above][order]
        if not len(units):
            return
        begins = np.flatnonzero(np.concatenate([[True], units[1:] != units[:-1]]))
        sizes = np.diff(np.append(begins, len(units)))
        touched = units[begins]
        offsets = np.arange(len(units)) - np.repeat(begins, sizes)
        fits = self.counts[touched] + sizes <= FIRING_PEAKS
        of_fitting = np.repeat(fits, sizes)
        rows = units[of_fitting]
        columns = self.counts[rows] + offsets[of_fitting]
        self.keys[rows, columns], self.peaks[rows, columns] = keys[of_fitting], peaks[of_fitting]
        self.counts[touched[fits]] += sizes[fits].astype(np.int32)
        self._displace(
            touched[~fits],
            np.repeat(np.arange(int((~fits).sum())), sizes[~fits]),
            offsets[~of_fitting],
            keys[~of_fitting],
            peaks[~of_fitting],
        )
        full = touched[self.counts[touched] == FIRING_PEAKS]
        self.floor[full] = self.keys[full].min(axis=1)

    def _displace(
        self, units: Array, lines: Array, offsets: Array, keys: Array, peaks: Array
    ) -> None:
        """Enter more candidates than there is room for: the highest keys stay."""
        if not len(units):
            return
        width = FIRING_PEAKS + int(offsets.max()) + 1
        all_keys = np.zeros((len(units), width), np.uint32)
        all_peaks = np.zeros((len(units), width), np.float32)
        all_keys[:, :FIRING_PEAKS] = self.keys[units]
        all_peaks[:, :FIRING_PEAKS] = self.peaks[units]
        all_keys[lines, FIRING_PEAKS + offsets] = keys
        all_peaks[lines, FIRING_PEAKS + offsets] = peaks
        first = width - FIRING_PEAKS
        best = np.argpartition(all_keys, first, axis=1)[:, first:]
        self.keys[units] = np.take_along_axis(all_keys, best, axis=1)
        self.peaks[units] = np.take_along_axis(all_peaks, best, axis=1)
        self.counts[units] = FIRING_PEAKS

    def entries(self) -> tuple[Array, Array, Array]:
        """Units, keys and peaks [m] of all entries, unit by unit; unordered within a unit."""
        rows = np.flatnonzero(self.counts)
        lines, columns = np.nonzero(self.keys[rows])
        units = rows[lines]
        return units, self.keys[units, columns], self.peaks[units, columns]

    def of(self, where: slice) -> list[Float32[np.ndarray, " k"]]:
        """The peaks [k] of each unit in `where`, the lowest rank first."""
        order = np.argsort(self.keys[where], axis=1)[:, ::-1]
        peaks = np.take_along_axis(self.peaks[where], order, axis=1)
        return [row[:count] for row, count in zip(peaks, self.counts[where], strict=True)]


def keys_of(ranks: Int64[np.ndarray, " m"]) -> UInt32[np.ndarray, " m"]:
    """Keys that fall as ranks rise. No key is 0, which marks an empty place."""
    return _LAST_RANK - ranks.astype(np.uint32)
