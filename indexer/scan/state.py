"""The state of a scan: what every batch's activations are measured into, layer by layer.

Extremes are taken over everything; the rest over the sample, whose contexts come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from indexer.captured import Captured
from indexer.corpus.batches import Batch
from indexer.errors import NeurariumError
from indexer.measure.examples import Centre
from indexer.measure.layer import LayerBatch, Pairs, Wanted
from indexer.measure.selection import Payload, Selection
from indexer.measure.sources import slots_of
from indexer.measure.transfers import to_host
from indexer.scan.sample import SampleScan
from indexer.scan.shape import SOURCE_EXAMPLES, ScanShape

DEAD_GATED = 1e-6
"""A gated MLP's neuron is dead when no activation's magnitude is above this."""

Array = np.ndarray[Any, Any]


class Scan:
    """Everything measured so far. Feed it each batch's layers with `add`."""

    def __init__(self, shape: ScanShape, source_index: Array, *, with_sample: bool = True) -> None:
        """`source_index` is the source of every context of the corpus. Without the sample, only
        batches of the rest can be added: another process measures it."""
        self.shape = shape
        self.source_index = source_index
        neurons, window = shape.neurons, shape.window
        self.offsets = np.concatenate([[0], np.cumsum(shape.widths)])
        """Where each layer's neurons begin in this scan's arrays."""
        self.top = Selection(neurons, shape.top_k, window)
        self.bottom = Selection(neurons, shape.bottom_k, window)
        self.by_source = Selection(neurons * shape.source_slots, SOURCE_EXAMPLES, window)
        self.maximum = np.full(neurons, -np.inf, np.float32)
        self.minimum = np.full(neurons, np.inf, np.float32)
        self.sample = SampleScan(shape) if with_sample else None

    def selections(self) -> dict[str, Selection]:
        """What is selected over all contexts, by name."""
        return {"top": self.top, "bottom": self.bottom, "by_source": self.by_source}

    def arrays(self) -> dict[str, Array]:
        """All that was measured, by name: the arrays themselves, to be saved or filled."""
        named: dict[str, Array] = {"maximum": self.maximum, "minimum": self.minimum}
        for name, selection in self.selections().items():
            named |= {f"{name}.{part}": values for part, values in selection.named().items()}
        if self.sample is not None:
            parts = self.sample.arrays().items()
            named |= {f"sample.{part}": values for part, values in parts}
        return named

    def merge(self, other: Scan) -> None:
        """Take in what another scan of the same layers measured on other contexts.

        The order of merging changes nothing. Only one of the two may have the sample.
        """
        np.maximum(self.maximum, other.maximum, out=self.maximum)
        np.minimum(self.minimum, other.minimum, out=self.minimum)
        others = other.selections()
        for name, selection in self.selections().items():
            selection.add(others[name].entries())
        if other.sample is not None:
            if self.sample is not None:
                raise ValueError("both scans have measured the sample")
            self.sample = other.sample

    def add(self, batch: Batch, group: Sequence[tuple[int, Captured]]) -> None:
        """Measure what some layers gave on one batch: of several, a device is waited for once.

        Layers are counted from this scan's first. Raises NeurariumError on NaN or ±inf.
        """
        steps = [_Step(self, batch, layer, captured) for layer, captured in group]
        for step, extremes in zip(
            steps, to_host([step.seen.extremes() for step in steps]), strict=True
        ):
            step.take_extremes(*(extremes + np.float32(0)))
        readings = [step.readings() for step in steps]
        values = iter(to_host([tensor for tensors in readings for tensor in tensors]))
        for step, tensors in zip(steps, readings, strict=True):
            step.keep([next(values) for _ in tensors])

    def source_rows(self, where: slice, batch: Batch) -> Int64[np.ndarray, "batch n"]:
        """The row of `by_source` that each context competes in, for each neuron."""
        slots = slots_of(self.source_index[batch.context_ids])
        neurons = np.arange(where.start, where.stop) * self.shape.source_slots
        rows: Int64[np.ndarray, "batch n"] = neurons[None, :] + slots[:, None]
        return rows

    def dead(self, gated: bool) -> Bool[np.ndarray, " neurons"]:
        """Neurons that never fire, as DESIGN.md's words define it."""
        if gated:
            return np.maximum(np.abs(self.maximum), np.abs(self.minimum)) <= DEAD_GATED
        return self.maximum <= 0


class _Group:
    """What several want of the same contexts and neurons: each pair is read and described once."""

    def __init__(self, wanted: Sequence[Wanted], shape: tuple[int, int], centre: Centre) -> None:
        """`shape` is that of a batch's peaks: contexts, neurons."""
        self.wanted = wanted
        cells = [one.pairs.contexts * shape[1] + one.pairs.neurons for one in wanted]
        chosen = np.zeros(shape[0] * shape[1], np.bool_)
        for some in cells:
            chosen[some] = True
        all_cells = np.flatnonzero(chosen)
        numbers = np.empty(len(chosen), np.int64)
        numbers[all_cells] = np.arange(len(all_cells))
        self.places = [numbers[some] for some in cells]
        self.pairs = Pairs(*np.divmod(all_cells, shape[1]), centre)

    def keep(self, described: Payload) -> None:
        """Put the pairs' examples where they are wanted."""
        for one, places in zip(self.wanted, self.places, strict=True):
            one.into.put(one.slots, described, places)


class _Step:
    """One layer of one batch on its way into the scan: what is asked of it, then what is kept.

    The model's device is not waited for here: the scan brings the readings of several layers over
    at once, between these calls.
    """

    def __init__(self, scan: Scan, batch: Batch, layer: int, captured: Captured) -> None:
        self.scan = scan
        self.batch = batch
        self.layer = layer
        self.where = slice(int(scan.offsets[layer]), int(scan.offsets[layer + 1]))
        self.seen = LayerBatch(batch, captured)
        self.wanted: dict[Centre, list[Wanted]] = {"peak": [], "trough": []}
        self.groups: list[_Group] = []

    def take_extremes(
        self, peaks: Float32[np.ndarray, "batch n"], troughs: Float32[np.ndarray, "batch n"]
    ) -> None:
        """Take in peaks and troughs, and let into the selections what is among their best."""
        scan, where = self.scan, self.where
        if not (np.isfinite(peaks).all() and np.isfinite(troughs).all()):
            dtype = str(self.seen.activations.dtype).removeprefix("torch.")
            raise NeurariumError(
                "The model gave a value that is not finite in layer "
                f"{scan.shape.first_layer + self.layer} ({dtype}): run again with "
                "--dtype float32, or check the model's weights."
            )
        self.peaks, self.troughs = peaks, troughs
        np.maximum(scan.maximum[where], peaks.max(axis=0), out=scan.maximum[where])
        np.minimum(scan.minimum[where], troughs.min(axis=0), out=scan.minimum[where])
        self._enter(scan.top, where, peaks)
        if scan.shape.source_slots:
            self._enter(scan.by_source, scan.source_rows(where, self.batch), peaks)
        self._enter(scan.bottom, where, -troughs, "trough")

    def readings(self) -> list[Any]:
        """All that is to be brought from the device."""
        tensors: list[Any] = []
        if self._sample is not None:
            self.wanted["peak"] += self._sample.wanted(self.where, self.seen, self.peaks)
        for centre, wanted in self.wanted.items():
            if wanted:
                self.groups.append(_Group(wanted, self.peaks.shape, centre))
                tensors += self.seen.gather(self.groups[-1].pairs)
        if self._sample is not None:
            tensors += self._sample.sums(self.where, self.seen, self.peaks, self.troughs)
        return tensors

    def keep(self, values: list[Array]) -> None:
        """Keep what was read, in the order of `readings`."""
        window, read = self.scan.shape.window, iter(values)
        for group in self.groups:
            group.keep(self.seen.describe(group.pairs, read, window))
        if self._sample is not None:
            self._sample.add_sums(self.where, self.seen, list(read))

    @property
    def _sample(self) -> SampleScan | None:
        """Where the sample is measured, if the batch is of it."""
        if self.batch.part == "rest":
            return None
        if self.scan.sample is None:
            raise ValueError("a scan without the sample was given a batch of it")
        return self.scan.sample

    def _enter(
        self,
        selection: Selection,
        rows: slice | Int64[np.ndarray, "batch n"],
        values: Float32[np.ndarray, "batch n"],
        centre: Centre = "peak",
    ) -> None:
        ids = self.batch.context_ids
        contexts, neurons = np.nonzero(selection.entering(rows, values, ids))
        whose = neurons + rows.start if isinstance(rows, slice) else rows[contexts, neurons]
        places, slots = selection.admit(whose, values[contexts, neurons], ids[contexts])
        if len(places):
            pairs = Pairs(contexts[places], neurons[places])
            self.wanted[centre].append(Wanted(pairs, selection.payload, slots))
