"""Dividing a scan among workers, with fake workers in this process that may die."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.corpus.batches import BatchPlan, Part
from indexer.errors import NeurariumError
from indexer.measure.selection import NO_ID
from indexer.run.stopping import Stopped
from indexer.scan.shape import ScanShape
from indexer.scan.state import Scan
from indexer.workers.orders import (
    CHUNK_SECONDS,
    DEATHS,
    FIRST_BATCHES,
    Order,
    OrderResult,
    OrderScanner,
    UnitsWork,
    WorkQueue,
    bounds_of,
    scan_by_crew,
)
from tests.helpers.scan_cases import Case, FakeCorpus, FakeModel, cases, relaxed

fewer = settings(relaxed, max_examples=25)


@dataclass
class FakeCrew:
    """Workers in this process that finish, or die, in the order of `choose`.

    Their results are pickled, as between processes.
    """

    case: Case
    workers: int
    dies: Callable[[Order], bool] = lambda _: False
    choose: Callable[[list[int]], int] = min
    waiting: dict[int, Order] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scanners = [self._new() for _ in range(self.workers)]

    def _new(self) -> OrderScanner:
        return OrderScanner(self.case.model, self.case.corpus, self.case.corpus.source_index)

    def __len__(self) -> int:
        return self.workers

    def give(self, worker: int, order: Order) -> None:
        assert worker not in self.waiting
        self.waiting[worker] = order
        self.orders.append(order)

    def wait(self, seconds: float) -> list[tuple[int, OrderResult | None]]:
        assert self.waiting
        worker = self.choose(sorted(self.waiting))
        order = self.waiting.pop(worker)
        if self.dies(order):
            self.scanners[worker] = self._new()
            return [(worker, None)]
        result: OrderResult = pickle.loads(pickle.dumps(self.scanners[worker].scan(order)))
        return [(worker, result)]


def content(scan: Scan) -> dict[str, bytes]:
    """The content of a scan, comparable regardless of the slots of its entries."""
    result = {"maximum": scan.maximum.tobytes(), "minimum": scan.minimum.tobytes()}
    for name, selection in scan.selections().items():
        chosen = selection.payload.at(selection.slots[selection.ids != NO_ID])
        result[name] = selection.values.tobytes() + selection.ids.tobytes()
        result |= {f"{name}.{part}": array.tobytes() for part, array in chosen.named().items()}
    assert scan.sample is not None
    for name, array in scan.sample.arrays().items():
        if not name.startswith("bands."):
            result[f"sample.{name}"] = array.tobytes()
    bands = scan.sample.bands
    chosen = bands.payload.at(bands.slots[bands.ids != NO_ID])
    result["bands"] = bands.values.tobytes() + bands.ids.tobytes()
    return result | {f"bands.{part}": array.tobytes() for part, array in chosen.named().items()}


def positions_of(case: Case) -> np.ndarray:
    """Tokens of each batch."""
    return np.array([case.corpus.lengths[plan.context_ids].sum() for plan in case.plans()])


def work(case: Case, crew: FakeCrew, after: Callable[..., None]) -> Scan:
    """The scan of a case by a crew."""
    scan = Scan(case.shape, case.corpus.source_index)
    plans = case.plans()
    scan_by_crew(crew, UnitsWork(scan), plans, positions_of(case), range(len(plans)), after)
    return scan


@fewer
@given(cases(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_many_workers_make_the_scan_of_one(case: Case, workers: int, random: Random) -> None:
    """In any order of finishing, and with deaths: every batch counts exactly once."""
    died: Counter[bytes] = Counter()

    def dies(order: Order) -> bool:
        key = pickle.dumps(order.plans)
        died[key] += 1
        return died[key] < DEATHS and random.random() < 0.3

    reported: list[int] = []
    crew = FakeCrew(case, workers, dies, random.choice)
    scan = work(case, crew, lambda *numbers: reported.extend(numbers))
    assert content(scan) == content(case.scan())
    assert sorted(reported) == list(range(len(case.plans())))


@fewer
@given(cases(), st.integers(0, 60))
def test_workers_return_exactly_the_entries_that_can_enter(case: Case, measured: int) -> None:
    """Compared with brute force: pairs beyond the k-th best so far, at most k per neuron."""
    plans = case.plans()
    sampled = [plan for plan in plans if plan.part != "rest"]
    rest = [plan for plan in plans if plan.part == "rest"]
    before, chunk = rest[: measured % (len(rest) + 1)], rest[measured % (len(rest) + 1) :]
    scanner = OrderScanner(case.model, case.corpus, case.corpus.source_index)
    merged = Scan(case.shape, case.corpus.source_index)
    crew = FakeCrew(case, 1)
    done = [*sampled, *before]
    scan_by_crew(
        crew, UnitsWork(merged), done, np.ones(len(done)), range(len(done)), lambda *_: None
    )
    result = scanner.scan(Order(case.shape, tuple(chunk), bounds_of(merged), False))
    seen = [int(context) for plan in done for context in plan.context_ids]
    new = [int(context) for plan in chunk for context in plan.context_ids]
    entries = result.entries["top"]
    for layer, width in enumerate(case.shape.widths):
        for neuron in range(width):
            row = merged.places.offsets[layer] + neuron
            peaks = case.peaks(layer, neuron, np.max)
            k = case.shape.top_k
            best = sorted((-peaks[context], context) for context in seen)[:k]
            expected = sorted((-peaks[context], context) for context in new)[:k]
            if len(best) == k:
                expected = [pair for pair in expected if pair < best[-1]]
            mine = entries.rows == row
            pairs = zip(-entries.values[mine], entries.ids[mine], strict=True)
            assert sorted(pairs) == expected
    assert ("bottom" in result.entries) == (case.shape.bottom_k > 0)


def plain_case() -> Case:
    """Contexts of equal length, in more batches than workers."""
    rng = np.random.default_rng(0)
    table = [torch.tensor(rng.normal(size=(40, 5, 3)), dtype=torch.float32)]
    shape = ScanShape((3,), np.arange(0, 40, 5), 2, 2, 5)
    return Case(FakeCorpus(np.full(40, 5), True), FakeModel(table), shape, 10, 100)


def test_batches_that_kill_every_worker_are_an_error() -> None:
    """Three deaths on the same batches are a clear error; two are tolerated."""
    case = plain_case()
    fatal = case.plans()[-1].context_ids[0]
    deaths = 0

    def dies(order: Order) -> bool:
        nonlocal deaths
        kills = deaths < most and any(fatal in plan.context_ids for plan in order.plans)
        deaths += kills
        return kills

    most = DEATHS - 1
    assert content(work(case, FakeCrew(case, 2, dies), lambda *_: None)) == content(case.scan())
    assert deaths == DEATHS - 1
    deaths, most = 0, DEATHS
    with pytest.raises(NeurariumError, match="3 workers died on the same batches"):
        work(case, FakeCrew(case, 2, dies), lambda *_: None)


def test_the_sample_is_one_order_and_the_first() -> None:
    """One worker scans the sample while others scan the rest; no order has both."""
    crew = FakeCrew(plain_case(), 3)
    work(crew.case, crew, lambda *_: None)
    parts = [{plan.part for plan in order.plans} for order in crew.orders]
    assert parts[0] == {"first_half", "second_half"}
    assert all(part == {"rest"} for part in parts[1:])
    assert [order.sampled for order in crew.orders] == [True] + [False] * (len(parts) - 1)
    assert len(parts) > 3


def test_what_after_raises_ends_the_scan() -> None:
    """Batches merged before the exception are reported; the scan stops."""
    case = plain_case()
    crew = FakeCrew(case, 2)
    reported: list[int] = []

    def after(*numbers: int) -> None:
        reported.extend(numbers)
        if len(reported) >= len(case.plans()) // 2:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        work(case, crew, after)
    assert len(reported) < len(case.plans())


def test_after_is_called_while_workers_are_busy() -> None:
    """A user can stop without waiting for a chunk to finish."""

    class Slow(FakeCrew):
        asked = 0

        def wait(self, seconds: float) -> list[tuple[int, OrderResult | None]]:
            self.asked += 1
            return [] if self.asked < 4 else super().wait(seconds)

    case = plain_case()
    reported: list[tuple[int, ...]] = []
    work(case, Slow(case, 1), lambda *numbers: reported.append(numbers))
    assert reported[:3] == [(), (), ()]
    assert all(reported[3:])


def plans_of(*parts: Part) -> list[BatchPlan]:
    """Batches with one context each."""
    return [BatchPlan(part, np.array([number])) for number, part in enumerate(parts)]


def test_chunks_shrink_towards_the_end() -> None:
    """The first chunks are small, while the speed is unknown; then each is a share of the rest, and
    none takes too long."""
    plans = plans_of("first_half", "second_half", *["rest"] * 1000)
    queue = WorkQueue(plans, np.full(1002, 100), range(1002), workers=2)
    first = queue.next()
    assert first is not None
    assert (first.numbers, first.sampled) == ((0, 1), True)
    queue.took(first, 1.0)
    chunk = queue.next()
    assert chunk is not None
    assert len(chunk.numbers) == FIRST_BATCHES
    queue.took(chunk, 0.1 * FIRST_BATCHES)  # ten batches a second
    seen = list(chunk.numbers)
    sizes = []
    while (chunk := queue.next()) is not None:
        sizes.append(len(chunk.numbers))
        seen += chunk.numbers
    assert seen == list(range(2, 1002))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == (1000 - FIRST_BATCHES) // 6
    assert sizes[-1] == 1
    many = WorkQueue(plans_of(*["rest"] * 10_000), np.full(10_000, 100), range(10_000), workers=2)
    first = many.next()
    assert first is not None
    many.took(first, 0.1 * FIRST_BATCHES)
    second = many.next()
    assert second is not None
    assert len(second.numbers) == 10 * CHUNK_SECONDS


def test_a_returned_chunk_is_the_next() -> None:
    """A returned chunk comes before any other."""
    queue = WorkQueue(plans_of(*["rest"] * 50), np.full(50, 100), range(50), workers=2)
    first, second = queue.next(), queue.next()
    assert first is not None
    assert second is not None
    queue.again(first)
    assert queue.next() == first
    third = queue.next()
    assert third is not None
    assert third.numbers[0] == second.numbers[-1] + 1
