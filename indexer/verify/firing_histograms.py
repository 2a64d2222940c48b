"""Compares recomputed contexts with a sparse set's histograms of the positions at which units fire,
and their zero counts: all other positions."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from sqlalchemy import Connection, Engine, select

from indexer.corpus.batches import Batch
from indexer.measure.histogram import SHOWN_BINS
from indexer.store import schema
from indexer.store.packing.codec import unpack_arrays
from indexer.verify.report import Findings
from indexer.verify.stored import StoredRun

_HISTOGRAMS = "histograms: positions at which units fire, by activation"
_CHUNK = 500

Array = np.ndarray[Any, Any]


class FiringHistograms:
    """The histograms of chosen units, and what recomputed contexts say of them so far."""

    def __init__(self, flats: Int64[np.ndarray, " n"]) -> None:
        """`flats`: indices of the units over all layers, ascending."""
        units = len(flats)
        self.flats = flats
        self.start = np.zeros(units)
        self.width = np.zeros(units)
        """Of a bin; 0 for a unit that never fires, and for damaged ones."""
        self.bins = np.zeros(units, np.int64)
        self.stored: Int64[np.ndarray, "n bins"] = np.zeros((units, SHOWN_BINS), np.int64)
        self.density = np.full(units, np.nan)
        self.sure = np.zeros_like(self.stored)
        """Positions so far that surely belong into each bin."""
        self.possible = np.zeros_like(self.stored)
        """Positions so far that rounding may put there."""
        self.outside = np.zeros(units, np.int64)
        """Positions so far at which a unit surely fires outside all bins."""

    def read(self, engine: Engine, run: StoredRun) -> None:
        """Read what is stored of the units. Damaged arrays are reported where examples are read."""
        with engine.connect() as connection:
            for first in range(0, len(self.flats), _CHUNK):
                self._read(connection, run, first, self.flats[first : first + _CHUNK].tolist())

    def _read(self, connection: Connection, run: StoredRun, first: int, flats: list[int]) -> None:
        table, arrays = schema.neurons, schema.neuron_arrays
        keys = {schema.neuron_key(run.id, flat): first + at for at, flat in enumerate(flats)}
        query = select(table.c.id, table.c.density, arrays.c.packed)
        query = query.join(arrays, arrays.c.neuron_id == table.c.id).where(table.c.id.in_(keys))
        for row in connection.execute(query):
            at = keys[row.id]
            try:
                unpacked = unpack_arrays(bytes(row.packed))
            except ValueError:
                continue
            counts = unpacked["histogram_counts"][:SHOWN_BINS]
            self.start[at], self.width[at] = unpacked["histogram_range"]
            self.bins[at], self.density[at] = len(counts), row.density
            self.stored[at, : len(counts)] = counts

    def add(
        self,
        first: int,
        batch: Batch,
        lowest: Float32[np.ndarray, "batch pos n"],
        highest: Float32[np.ndarray, "batch pos n"],
    ) -> None:
        """Add a batch of a layer whose first unit has the index `first`."""
        begin, end = np.searchsorted(self.flats, [first, first + lowest.shape[-1]])
        columns = self.flats[begin:end] - first
        for low, high, included in zip(lowest, highest, batch.included, strict=True):
            self._add(int(begin), low[included][:, columns], high[included][:, columns])

    def _add(self, begin: int, low: Float32[np.ndarray, "pos m"], high: Array) -> None:
        places, units = np.nonzero(high > 0)
        low, high, units = low[places, units], high[places, units], units + begin
        below, above = self._bins(np.maximum(low, 0), units), self._bins(high, units)
        fires, last = low > 0, self.bins[units] - 1
        out = fires & ((above < 0) | (below > last))
        np.add.at(self.outside, units[out], 1)
        inside = ~out & (last >= 0)
        units, fires = units[inside], fires[inside]
        below = np.clip(below[inside], 0, last[inside])
        above = np.clip(above[inside], 0, last[inside])
        known = fires & (below == above)
        np.add.at(self.sure, (units[known], below[known]), 1)
        for step in range(int((above - below).max(initial=0)) + 1):
            reached = below + step <= above
            np.add.at(self.possible, (units[reached], below[reached] + step), 1)

    def _bins(self, values: Array, units: Array) -> Int64[np.ndarray, " m"]:
        """The bin of each value [m], exactly, since widths are powers of two; −1 for units without
        bins."""
        width = self.width[units]
        known = width > 0
        places = (values - self.start[units]) / np.where(known, width, 1)
        return np.where(known, np.floor(places), -1).astype(np.int64)

    def compare(self, run: StoredRun, compared: int, positions: int, findings: Findings) -> None:
        """Compare with all `positions` of the corpus, `compared` of which were added: exactly if
        these are all, else for a contradiction."""
        rest = positions - compared
        fired = self.density * positions
        off = positions * np.finfo(np.float64).eps + 1e-6
        total = self.stored.sum(axis=1)
        miscounted = np.abs(total - fired) > off
        too_few, too_many = self.stored < self.sure, self.stored > self.possible + rest
        damaged = np.isnan(self.density)
        wrong = np.flatnonzero(
            ~damaged & (miscounted | (self.outside > 0) | (too_few | too_many).any(axis=1))
        )
        findings.equal(_HISTOGRAMS, int((~damaged).sum()), len(wrong))
        for at in wrong.tolist():
            if miscounted[at]:
                problem = (
                    f"its histogram counts {total[at]} positions at which it fires and leaves "
                    f"{positions - total[at]} at zero, and its density says {fired[at]:.8g}"
                )
            elif self.outside[at]:
                problem = f"it fires at {self.outside[at]} positions outside its histogram"
            else:
                bin_ = int(np.flatnonzero(too_few[at] | too_many[at])[0])
                low = self.start[at] + bin_ * self.width[at]
                problem = (
                    f"its histogram counts {self.stored[at, bin_]} positions from {low:.7g} to "
                    f"{low + self.width[at]:.7g}, and it fires so at {self.sure[at, bin_]} to "
                    f"{self.possible[at, bin_] + rest}"
                )
            findings.add(run.finding(int(self.flats[at]), problem))
