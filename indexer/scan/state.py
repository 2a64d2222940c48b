"""The state of a scan: everything measured so far, layer by layer.

Extremes are taken over all contexts, the rest over the sample, whose contexts come first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from torch import Tensor

from indexer.captured import Captured
from indexer.corpus.batches import Batch
from indexer.measure.examples import Centre
from indexer.measure.firing import Fired, fired
from indexer.measure.layer import LayerBatch, Pairs, Wanted
from indexer.measure.selection import Payload, Selection
from indexer.measure.sources import slots_of
from indexer.measure.transfers import to_host, to_host_by_name
from indexer.models.finite import not_finite
from indexer.scan.firing import FiringScan
from indexer.scan.sample import SampleScan
from indexer.scan.shape import ScanShape
from indexer.store.places import Places
from indexer.store.sizes import SOURCE_EXAMPLES

Array = np.ndarray[Any, Any]


class Scan:
    """Everything measured so far. Feed it each batch's layers with `add`."""

    def __init__(self, shape: ScanShape, source_index: Array, *, with_sample: bool = True) -> None:
        """`source_index` is the source of every context of the corpus. Without the sample, `add`
        takes batches of the rest only: another process measures the sample."""
        self.shape = shape
        self.source_index = source_index
        neurons, window = shape.neurons, shape.window
        self.places = Places(shape.widths)
        """Where each layer is in this scan's arrays."""
        self.top = Selection(neurons, shape.top_k, window)
        self.bottom = Selection(neurons, shape.bottom_k, window)
        self.by_source = Selection(neurons * shape.source_slots, SOURCE_EXAMPLES, window)
        self.maximum = np.full(neurons, -np.inf, np.float32)
        self.minimum = np.full(neurons, np.inf, np.float32)
        self.sample = SampleScan(shape) if with_sample else None
        self.firing = FiringScan(shape) if shape.sparse else None

    def selections(self) -> dict[str, Selection]:
        """The selections over all contexts, by name."""
        named = {"top": self.top, "bottom": self.bottom, "by_source": self.by_source}
        return named if self.firing is None else named | {"firing": self.firing.examples}

    def arrays(self) -> dict[str, Array]:
        """All arrays of the state by name, not copied, so that they can be saved or filled."""
        named: dict[str, Array] = {"maximum": self.maximum, "minimum": self.minimum}
        for name, selection in self.selections().items():
            named |= {f"{name}.{part}": values for part, values in selection.named().items()}
        for name, part in (("sample", self.sample), ("firing", self.firing)):
            if part is not None:
                named |= {f"{name}.{key}": values for key, values in part.arrays().items()}
        return named

    def merge(self, other: Scan) -> None:
        """Add what another scan of the same layers measured on other contexts.

        The order of merging changes nothing. Raises ValueError if both have measured the sample.
        """
        np.maximum(self.maximum, other.maximum, out=self.maximum)
        np.minimum(self.minimum, other.minimum, out=self.minimum)
        others = other.selections()
        for name, selection in self.selections().items():
            selection.add(others[name].entries())
        if self.firing is not None and other.firing is not None:
            self.firing.merge(other.firing)
        if other.sample is not None:
            if self.sample is not None:
                raise ValueError("both scans have measured the sample")
            self.sample = other.sample

    def add(self, batch: Batch, group: Sequence[tuple[int, Captured]]) -> None:
        """Measure some layers of one batch; for a group of several the device is waited for once.

        Layers are counted from this scan's first. Raises NeurariumError on NaN or ±inf.
        """
        steps = [_Step(self, batch, layer, captured) for layer, captured in group]
        for step, extremes in zip(
            steps, to_host([step.seen.extremes() for step in steps]), strict=True
        ):
            peaks, troughs = extremes + np.float32(0)  # −0 counts as 0
            step.take_extremes(peaks, troughs)
        readings = to_host_by_name([step.readings() for step in steps])
        for step, values in zip(steps, readings, strict=True):
            step.store(values)

    def source_rows(self, where: slice, batch: Batch) -> Int64[np.ndarray, "batch n"]:
        """The row of `by_source` that each context competes in, for each neuron."""
        slots = slots_of(self.source_index[batch.context_ids])
        neurons = np.arange(where.start, where.stop) * self.shape.source_slots
        rows: Int64[np.ndarray, "batch n"] = neurons[None, :] + slots[:, None]
        return rows


class _Group:
    """All that is wanted of one batch and layer around peaks, or around troughs: a pair wanted for
    several selections is read and described once."""

    def __init__(self, wanted: Sequence[Wanted], shape: tuple[int, int], centre: Centre) -> None:
        """`shape` is that of a batch's peaks: contexts, neurons."""
        self.wanted = wanted
        cells = [item.pairs.contexts * shape[1] + item.pairs.neurons for item in wanted]
        chosen = np.zeros(shape[0] * shape[1], np.bool_)
        for of_item in cells:
            chosen[of_item] = True
        all_cells = np.flatnonzero(chosen)
        numbers = np.empty(len(chosen), np.int64)
        numbers[all_cells] = np.arange(len(all_cells))
        self.numbers = [numbers[of_item] for of_item in cells]
        self.pairs = Pairs(*np.divmod(all_cells, shape[1]), centre)

    def store(self, described: Payload) -> None:
        """Put the pairs' examples where they are wanted."""
        for item, numbers in zip(self.wanted, self.numbers, strict=True):
            item.into.put(item.slots, described, numbers)


class _Step:
    """One layer of one batch on its way into the scan: `take_extremes`, `readings`, `store`.

    The model's device is not waited for in these: the scan brings the readings of several layers
    over at once, between the calls.
    """

    def __init__(self, scan: Scan, batch: Batch, layer: int, captured: Captured) -> None:
        self.scan = scan
        self.batch = batch
        self.layer = layer
        self.where = scan.places.layer(layer)
        self.seen = LayerBatch(batch, captured)
        self.wanted: dict[Centre, list[Wanted]] = {"peak": [], "trough": []}
        self.groups: dict[Centre, _Group] = {}

    def take_extremes(
        self, peaks: Float32[np.ndarray, "batch n"], troughs: Float32[np.ndarray, "batch n"]
    ) -> None:
        """Update maxima and minima, and let contexts into the selections over all contexts. Raises
        NeurariumError on NaN or ±inf."""
        scan, where = self.scan, self.where
        if not (np.isfinite(peaks).all() and np.isfinite(troughs).all()):
            raise not_finite(scan.shape.first_layer + self.layer, self.seen.activations.dtype)
        self.peaks, self.troughs = peaks, troughs
        np.maximum(scan.maximum[where], peaks.max(axis=0), out=scan.maximum[where])
        np.minimum(scan.minimum[where], troughs.min(axis=0), out=scan.minimum[where])
        self._enter(scan.top, where, peaks)
        if scan.shape.source_slots:
            self._enter(scan.by_source, scan.source_rows(where, self.batch), peaks)
        self._enter(scan.bottom, where, -troughs, "trough")

    def readings(self) -> dict[str, Tensor]:
        """All tensors that the host needs, by name: `store` takes their values."""
        tensors: dict[str, Tensor] = {}
        if self._sample is not None:
            self.wanted["peak"] += self._sample.wanted(self.where, self.seen, self.peaks)
        firing = self.scan.firing
        if firing is not None:
            self.wanted["peak"].append(firing.wanted(self.where, self.seen, self.peaks))
            tensors |= _prefixed("fired", fired(self.seen))
        for centre, wanted in self.wanted.items():
            if wanted:
                group = self.groups[centre] = _Group(wanted, self.peaks.shape, centre)
                tensors |= _prefixed(centre, self.seen.gather(group.pairs))
        if self._sample is not None and firing is None:
            sums = self._sample.sums(self.where, self.seen, self.peaks, self.troughs)
            tensors |= _prefixed("sums", sums)
        return tensors

    def store(self, values: Mapping[str, Array]) -> None:
        """Store examples and sums, from the values of `readings`."""
        window = self.scan.shape.window
        for centre, group in self.groups.items():
            gathered = _without(centre, values)
            group.store(self.seen.describe(group.pairs, gathered, window))
        firing, sample = self.scan.firing, self._sample
        if firing is not None:
            found = Fired.of(self.seen, _without("fired", values))
            firing.add(self.layer, self.where, self.seen, self.peaks, found)
            if sample is not None:
                sample.add_fired(self.where, self.seen, self.peaks, found)
        elif sample is not None:
            sample.add_sums(self.where, self.seen, _without("sums", values))

    @property
    def _sample(self) -> SampleScan | None:
        """Where the sample is measured, if the batch is part of it."""
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
        """Let contexts into a selection, and want the examples of those that entered."""
        ids = self.batch.context_ids
        entering = selection.entering(rows, values, ids)
        if self.scan.shape.sparse:  # a context in which a unit does not fire is no example of it
            entering &= values > 0
        contexts, neurons = np.nonzero(entering)
        whose = neurons + rows.start if isinstance(rows, slice) else rows[contexts, neurons]
        entered, slots = selection.admit(whose, values[contexts, neurons], ids[contexts])
        if len(entered):
            pairs = Pairs(contexts[entered], neurons[entered])
            self.wanted[centre].append(Wanted(pairs, selection.payload, slots))


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _without(prefix: str, values: Mapping[str, Array]) -> dict[str, Array]:
    """The values whose names begin with `prefix.`, under the rest of their names."""
    start = f"{prefix}."
    return {
        name.removeprefix(start): array for name, array in values.items() if name.startswith(start)
    }
