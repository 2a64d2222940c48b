"""One scan by many workers: which batches a worker takes, what it gives back, how that is merged.

Apart from `indexer.workers.ray`, which knows the processes the workers run in. Pure but for torch.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32, Int64

from indexer.corpus.batches import BatchPlan, Contexts
from indexer.errors import NeurariumError
from indexer.measure.selection import Entries, Selection
from indexer.scan.loop import Model, scan_batches
from indexer.scan.shape import ScanShape
from indexer.scan.state import Scan

FIRST_BATCHES = 4
"""Batches of a unit while it is not known how fast a worker is."""
UNIT_SECONDS = 20.0
"""A unit is to take so long at most: that much is lost where a worker dies or the user stops."""
PARTS = 3
"""A worker takes its share of what is left divided by this: units shrink towards the end, so that
all workers end together."""
DEATHS = 3
"""So many workers may die over a unit before it is given up."""
POLL_SECONDS = 0.5
"""Between two looks at whether the user asked for an end."""
_BLOCK = 1 << 18
"""Entries merged at once: merging takes some memory for each."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Bound:
    """The k-th best pair of each row of a selection: only what beats it can still enter."""

    values: Float32[np.ndarray, " rows"]
    ids: Int64[np.ndarray, " rows"]


@dataclass(frozen=True)
class Order:
    """What a worker is asked to do: some batches, and the bounds at the time."""

    shape: ScanShape
    plans: tuple[BatchPlan, ...]
    bounds: dict[str, Bound]
    sampled: bool
    """Whether the batches are those of the sample, all of them in their order."""


@dataclass(frozen=True)
class Found:
    """What a worker measured on its batches: all that can change a scan that had these bounds."""

    maximum: Float32[np.ndarray, " neurons"]
    minimum: Float32[np.ndarray, " neurons"]
    entries: dict[str, Entries]
    """Of each selection, what beat the bounds."""
    sample: dict[str, Array] | None
    """The sample's arrays, where it was measured."""
    seconds: float
    """That the worker took, loading its model not counted."""


def bounds_of(scan: Scan) -> dict[str, Bound]:
    """A scan's bounds as they are now."""
    return {
        name: Bound(selection.values[:, -1].copy(), selection.ids[:, -1].copy())
        for name, selection in scan.selections().items()
        if selection.k
    }


class UnitScanner:
    """A worker's own: a model, the corpus, and room to measure in that is used again."""

    def __init__(self, model: Model, corpus: Contexts, source_index: Array) -> None:
        self.model, self.corpus, self.source_index = model, corpus, source_index
        self._scan: Scan | None = None

    def scan(self, order: Order) -> Found:
        """Measure an order's batches. Raises NeurariumError."""
        began = time.perf_counter()
        scan = self._room(order)
        for name, selection in scan.selections().items():
            if name in order.bounds:
                _begin(selection, order.bounds[name])
        scan.maximum.fill(-np.inf)
        scan.minimum.fill(np.inf)
        everything = range(len(order.plans))
        scan_batches(self.model, self.corpus, scan, order.plans, everything, lambda _: None)
        return Found(
            maximum=scan.maximum.copy(),
            minimum=scan.minimum.copy(),
            entries={
                name: _beyond(scan.selections()[name], bound)
                for name, bound in order.bounds.items()
            },
            sample=None if scan.sample is None else scan.sample.arrays(),
            seconds=time.perf_counter() - began,
        )

    def _room(self, order: Order) -> Scan:
        if order.sampled:  # once a run: not kept
            return Scan(order.shape, self.source_index)
        if self._scan is None or self._scan.shape.layers != order.shape.layers:
            self._scan = Scan(order.shape, self.source_index, with_sample=False)
        return self._scan


def _begin(selection: Selection, bound: Bound) -> None:
    """Fill all places with the bound: whatever enters then beats it, and drives one of them out."""
    selection.values[:] = bound.values[:, None]
    selection.ids[:] = bound.ids[:, None]


def _beyond(selection: Selection, bound: Bound) -> Entries:
    """The entries that took a place. None has the bound's own id: that context is measured."""
    rows, places = np.nonzero(selection.ids != bound.ids[:, None])
    payload = selection.payload.at(selection.slots[rows, places])
    return Entries(rows, selection.values[rows, places], selection.ids[rows, places], payload)


def take_in(scan: Scan, found: Found) -> None:
    """Merge what a worker found on batches that are not in the scan yet."""
    np.maximum(scan.maximum, found.maximum, out=scan.maximum)
    np.minimum(scan.minimum, found.minimum, out=scan.minimum)
    for name, entries in found.entries.items():
        for part in _blocks(entries):
            scan.selections()[name].add(part)
    if found.sample is not None:
        if scan.sample is None:
            raise ValueError("a scan without the sample was given it")
        if "signs" in found.sample:
            scan.sample.count_signs()
        for name, mine in scan.sample.arrays().items():
            mine[...] = found.sample[name]


def _blocks(entries: Entries) -> Iterator[Entries]:
    for start in range(0, len(entries.rows), _BLOCK):
        some = slice(start, start + _BLOCK)
        rows, values, ids = entries.rows[some], entries.values[some], entries.ids[some]
        yield replace(entries, rows=rows, values=values, ids=ids, payload=entries.payload.at(some))


@dataclass(frozen=True)
class Unit:
    """Batches that one worker scans at one go."""

    numbers: tuple[int, ...]
    """Of the run's batches."""
    sampled: bool


class Units:
    """What is left to do: the whole sample as one unit, then the rest in runs of batches."""

    def __init__(
        self,
        plans: Sequence[BatchPlan],
        positions: Int64[np.ndarray, " batches"],
        todo: Sequence[int],
        workers: int,
    ) -> None:
        """`positions` are those of each batch, `todo` the batches; of the sample all or none."""
        self.positions, self.workers = positions, workers
        sample = tuple(number for number in todo if plans[number].part != "rest")
        self._waiting = deque([Unit(sample, True)] if sample else [])
        self._rest = deque(number for number in todo if plans[number].part == "rest")
        self._left = int(positions[list(self._rest)].sum())
        self._rate: float | None = None

    def next(self) -> Unit | None:
        """What a worker takes next, or None where nothing is left."""
        if self._waiting:
            return self._waiting.popleft()
        if not self._rest:
            return None
        most = self._left / (PARTS * self.workers)
        numbers: list[int] = []
        size = 0
        while self._rest and (not numbers or size + self.positions[self._rest[0]] <= most):
            numbers.append(self._rest.popleft())
            size += int(self.positions[numbers[-1]])
            if self._rate is None and len(numbers) == FIRST_BATCHES:
                break
            if self._rate is not None and size >= self._rate * UNIT_SECONDS:
                break
        self._left -= size
        return Unit(tuple(numbers), False)

    def again(self, unit: Unit) -> None:
        """A unit was not finished."""
        self._waiting.append(unit)

    def took(self, unit: Unit, seconds: float) -> None:
        """A unit was finished in so long."""
        if not unit.sampled:
            self._rate = int(self.positions[list(unit.numbers)].sum()) / max(seconds, 1e-6)


class Crew(Protocol):
    """Workers, by number, each with one order at a time."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def give(self, worker: int, order: Order) -> None:
        """Begin an order. Does not wait."""
        ...

    def wait(self, seconds: float) -> list[tuple[int, Found | None]]:
        """Workers that have ended within so long, with what they found; with None those that died,
        in whose place there is another now. Raises NeurariumError where an order cannot be done."""
        ...


def scan_by_crew(
    crew: Crew,
    scan: Scan,
    plans: Sequence[BatchPlan],
    positions: Int64[np.ndarray, " batches"],
    todo: Sequence[int],
    after: Callable[..., None],
) -> None:
    """Scan the batches `todo` with a crew's workers, to the same scan as one would make.

    `after` is told the batches of each unit once they are in the scan, and nothing at all every
    moment; what it raises ends the loop. Raises NeurariumError.
    """
    units = Units(plans, positions, todo, len(crew))
    idle = deque(range(len(crew)))
    busy: dict[int, Unit] = {}
    deaths: Counter[Unit] = Counter()
    ended: list[tuple[Unit, Found]] = []
    while True:
        while idle and (unit := units.next()) is not None:
            worker = idle.popleft()
            batches = tuple(plans[number] for number in unit.numbers)
            crew.give(worker, Order(scan.shape, batches, bounds_of(scan), unit.sampled))
            busy[worker] = unit
        # Only now, when those who gave it are at work again.
        for unit, found in ended:
            take_in(scan, found)
            after(*unit.numbers)
        if not busy:
            return
        ended = []
        for worker, result in crew.wait(POLL_SECONDS):
            unit = busy.pop(worker)
            idle.append(worker)
            if result is not None:
                units.took(unit, result.seconds)
                ended.append((unit, result))
                continue
            deaths[unit] += 1
            if deaths[unit] == DEATHS:
                raise NeurariumError(
                    f"{DEATHS} workers died over the same batches, most likely for want of memory:"
                    " take fewer --workers, or lower --batch-tokens or --memory."
                )
            units.again(unit)
        if not ended:
            after()
