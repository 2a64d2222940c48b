"""Divides a scan among workers: which batches each gets, what it returns, how results are merged.

`indexer.workers.crew` has the processes that workers run in.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32, Int64, UInt32

from indexer.corpus.batches import BatchPlan, Contexts
from indexer.errors import NeurariumError
from indexer.measure.selection import Entries, Selection
from indexer.scan.firing import FiringResult
from indexer.scan.loop import Model, scan_batches
from indexer.scan.shape import ScanShape
from indexer.scan.state import Scan

FIRST_BATCHES = 4
"""Batches in a chunk while the speed of workers is unknown."""
CHUNK_SECONDS = 20.0
"""Longest duration of a chunk, which is lost if the worker dies or the user stops."""
PARTS = 3
"""A chunk is at most a worker's share of the rest divided by this: chunks shrink towards the end,
so that all workers finish together."""
DEATHS = 3
"""The scan fails once this many workers died on the same chunk."""
POLL_SECONDS = 0.5
"""How often to check whether the user asked to stop."""
_BLOCK = 1 << 18
"""Entries merged at once, to bound memory."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Bound:
    """The k-th best pair of each row of a selection: only better pairs can still enter."""

    values: Float32[np.ndarray, " rows"]
    ids: Int64[np.ndarray, " rows"]


@dataclass(frozen=True)
class Order:
    """The batches a worker is to scan, and the bounds at the time."""

    shape: ScanShape
    plans: tuple[BatchPlan, ...]
    bounds: dict[str, Bound]
    sampled: bool
    """Whether the batches are the whole sample, in order."""
    floor: UInt32[np.ndarray, " units"] | None = None
    """Of a sparse set's firing peaks: only keys above it can still enter."""


@dataclass(frozen=True)
class OrderResult:
    """The result of an order: everything that can change a scan with the order's bounds."""

    maximum: Float32[np.ndarray, " neurons"]
    minimum: Float32[np.ndarray, " neurons"]
    entries: dict[str, Entries]
    """For each selection, the entries that beat the bounds."""
    sample: dict[str, Array] | None
    """The sample's arrays by name, as `SampleScan.arrays`, if it was measured."""
    firing: FiringResult | None
    """What was measured of a sparse set wherever its units fire."""
    seconds: float
    """Duration, without loading the model."""


def bounds_of(scan: Scan) -> dict[str, Bound]:
    """The current bounds of a scan, by selection."""
    return {
        name: Bound(selection.values[:, -1].copy(), selection.ids[:, -1].copy())
        for name, selection in scan.selections().items()
        if selection.k
    }


class OrderScanner:
    """Scans orders in a worker, with its own model, corpus and reusable scan state."""

    def __init__(self, model: Model, corpus: Contexts, source_index: Array) -> None:
        self.model, self.corpus, self.source_index = model, corpus, source_index
        self._scan: Scan | None = None

    def scan(self, order: Order) -> OrderResult:
        """The result of an order. Raises NeurariumError."""
        began = time.perf_counter()
        scan = self._state(order)
        for name, selection in scan.selections().items():
            if name in order.bounds:
                fill(selection, order.bounds[name])
        if scan.firing is not None and order.floor is not None:
            scan.firing.clear(order.floor)
        scan.maximum.fill(-np.inf)
        scan.minimum.fill(np.inf)
        all_batches = range(len(order.plans))
        scan_batches(self.model, self.corpus, scan, order.plans, all_batches, lambda _: None)
        return OrderResult(
            maximum=scan.maximum.copy(),
            minimum=scan.minimum.copy(),
            entries={
                name: _entered(scan.selections()[name], bound)
                for name, bound in order.bounds.items()
            },
            sample=None if scan.sample is None else scan.sample.arrays(),
            firing=None if scan.firing is None else scan.firing.result(),
            seconds=time.perf_counter() - began,
        )

    def _state(self, order: Order) -> Scan:
        if order.sampled:  # needed once per run
            return Scan(order.shape, self.source_index)
        if self._scan is None or not _same(self._scan.shape, order.shape):
            self._scan = Scan(order.shape, self.source_index, with_sample=False)
        return self._scan


def _same(one: ScanShape, other: ScanShape) -> bool:
    """Whether two slices of one job are the same."""
    return (one.first_neuron, one.widths) == (other.first_neuron, other.widths)


def fill(selection: Selection, bound: Bound) -> None:
    """Fill all places with the bound, so that only better pairs enter."""
    selection.values[:] = bound.values[:, None]
    selection.ids[:] = bound.ids[:, None]


def _entered(selection: Selection, bound: Bound) -> Entries:
    """The entries that entered. None has the bound's id, whose context is already in the scan."""
    rows, places = np.nonzero(selection.ids != bound.ids[:, None])
    payload = selection.payload.at(selection.slots[rows, places])
    return Entries(rows, selection.values[rows, places], selection.ids[rows, places], payload)


def merge(scan: Scan, result: OrderResult) -> None:
    """Merge the result of batches that are not in the scan yet. Raises ValueError if it has a
    sample and the scan has none."""
    np.maximum(scan.maximum, result.maximum, out=scan.maximum)
    np.minimum(scan.minimum, result.minimum, out=scan.minimum)
    for name, entries in result.entries.items():
        for part in _blocks(entries):
            scan.selections()[name].add(part)
    if scan.firing is not None and result.firing is not None:
        scan.firing.merge(result.firing)
    if result.sample is not None:
        if scan.sample is None:
            raise ValueError("a scan without a sample got a sample to merge")
        if "signs" in result.sample:
            scan.sample.count_signs()
        for name, array in scan.sample.arrays().items():
            array[...] = result.sample[name]


def _blocks(entries: Entries) -> Iterator[Entries]:
    for start in range(0, len(entries.rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        rows, values, ids = entries.rows[block], entries.values[block], entries.ids[block]
        yield replace(entries, rows=rows, values=values, ids=ids, payload=entries.payload.at(block))


@dataclass(frozen=True)
class Chunk:
    """Batches that a worker scans in one order."""

    numbers: tuple[int, ...]
    """Indices of the run's batches."""
    sampled: bool


class WorkQueue:
    """The remaining work: the whole sample as one chunk, then the rest in chunks of batches."""

    def __init__(
        self,
        plans: Sequence[BatchPlan],
        positions: Int64[np.ndarray, " batches"],
        todo: Sequence[int],
        workers: int,
    ) -> None:
        """`positions`: positions in each batch. `todo`: indices of the batches to scan, with all or
        none of the sample."""
        self.positions, self.workers = positions, workers
        sample = tuple(number for number in todo if plans[number].part != "rest")
        self._waiting = deque([Chunk(sample, True)] if sample else [])
        self._rest = deque(number for number in todo if plans[number].part == "rest")
        self._left = int(positions[list(self._rest)].sum())
        self._rate: float | None = None

    def next(self) -> Chunk | None:
        """The next chunk, or None if no work is left."""
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
            if self._rate is not None and size >= self._rate * CHUNK_SECONDS:
                break
        self._left -= size
        return Chunk(tuple(numbers), False)

    def again(self, chunk: Chunk) -> None:
        """Return a chunk that was not finished."""
        self._waiting.append(chunk)

    def took(self, chunk: Chunk, seconds: float) -> None:
        """Record the duration of a finished chunk."""
        if not chunk.sampled:
            self._rate = int(self.positions[list(chunk.numbers)].sum()) / max(seconds, 1e-6)


class Work(Protocol):
    """What is divided among workers."""

    def order(self, plans: tuple[BatchPlan, ...], *, sampled: bool) -> Any:
        """An order for these batches, the whole sample or none of it."""
        ...

    def merge(self, result: Any) -> None:
        """Merge the result of an order, which has its duration in `seconds`."""
        ...


@dataclass(frozen=True)
class UnitsWork:
    """A scan of units, to be divided."""

    scan: Scan

    def order(self, plans: tuple[BatchPlan, ...], *, sampled: bool) -> Order:
        """An order for these batches."""
        firing = self.scan.firing
        floor = None if firing is None else firing.peaks.floor.copy()
        return Order(self.scan.shape, plans, bounds_of(self.scan), sampled, floor)

    def merge(self, result: OrderResult) -> None:
        """Merge the result of batches that are not in the scan yet."""
        merge(self.scan, result)


class Crew(Protocol):
    """Numbered workers, each with one order at a time."""

    def __len__(self) -> int:
        """The number of workers."""
        ...

    def give(self, worker: int, order: Any) -> None:
        """Start an order, without waiting."""
        ...

    def wait(self, seconds: float) -> list[tuple[int, Any]]:
        """Workers that finish within `seconds`, with their results. A worker that died has None and
        is already replaced. Raises NeurariumError if an order fails."""
        ...


def scan_by_crew(
    crew: Crew,
    work: Work,
    plans: Sequence[BatchPlan],
    positions: Int64[np.ndarray, " batches"],
    todo: Sequence[int],
    after: Callable[..., None],
) -> None:
    """Scan the batches `todo` with a crew. The result is the same as with one worker.

    `after` is called with the batches of each chunk once they are merged, and regularly with no
    arguments; an exception it raises ends the scan. Raises NeurariumError.
    """
    queue = WorkQueue(plans, positions, todo, len(crew))
    idle = deque(range(len(crew)))
    busy: dict[int, Chunk] = {}
    deaths: Counter[Chunk] = Counter()
    finished: list[tuple[Chunk, Any]] = []
    while True:
        while idle and (chunk := queue.next()) is not None:
            worker = idle.popleft()
            batches = tuple(plans[number] for number in chunk.numbers)
            crew.give(worker, work.order(batches, sampled=chunk.sampled))
            busy[worker] = chunk
        # Merge after all workers have new orders, so that none waits for it.
        for chunk, result in finished:
            work.merge(result)
            after(*chunk.numbers)
        if not busy:
            return
        finished = []
        for worker, outcome in crew.wait(POLL_SECONDS):
            chunk = busy.pop(worker)
            idle.append(worker)
            if outcome is not None:
                queue.took(chunk, outcome.seconds)
                finished.append((chunk, outcome))
                continue
            deaths[chunk] += 1
            if deaths[chunk] == DEATHS:
                raise NeurariumError(
                    f"{DEATHS} workers died on the same batches, most likely out of memory: "
                    "use fewer --workers, or lower --batch-tokens or --memory."
                )
            queue.again(chunk)
        if not finished:
            after()
