"""Timing in rounds: in each round everything that is compared has one turn, in a random order, so
that whatever else the machine does disturbs all alike.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
_PROGRESS_SECONDS = 5.0


@dataclass(frozen=True)
class Turn(Generic[Key, Item]):
    """One call of one contestant."""

    key: Key
    round: int
    item: Item
    """What the contestant was called with."""
    wall: float
    """Seconds."""
    processor: float
    """Seconds of all threads together, this process's only."""
    result: Any
    """What the contestant returned."""


def interleave(
    contestants: Mapping[Key, Callable[[Item], object]],
    items: Iterable[Item],
    seed: int = 0,
    *,
    every: Mapping[Key, int] | None = None,
    wait: Callable[[], object] = lambda: None,
) -> Iterator[Turn[Key, Item]]:
    """Call every contestant once with each item, and yield each turn as it ends.

    Args:
        contestants: what is compared.
        items: one a round: a batch, a number, stores to write to.
        seed: of the order within each round.
        every: a contestant with the number n takes part in every n-th round only.
        wait: called before each look at the clock, to wait for a GPU.
    """
    order = random.Random(seed)
    for number, item in enumerate(items):
        for key in order.sample(list(contestants), len(contestants)):
            if number % (every or {}).get(key, 1):
                continue
            wait()
            wall, processor = time.perf_counter(), time.process_time()
            result = contestants[key](item)
            wait()
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            yield Turn(key, number, item, wall, processor, result)


def announced(turns: Iterable[Turn[Key, Item]], total: int, what: str) -> Iterator[Turn[Key, Item]]:
    """Pass turns on; a line on stderr says how many are done, every five seconds and at the end."""
    began = shown = time.monotonic()
    for number, turn in enumerate(turns, 1):
        now = time.monotonic()
        if number == total or now - shown > _PROGRESS_SECONDS:
            shown = now
            print(f"{what}: {number:,} of {total:,}, {now - began:.0f} s", file=sys.stderr)
        yield turn


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def times_faster(turns: Iterable[Turn[Key, Item]], one: Key, other: Key) -> list[float]:
    """How many times faster `one` was than `other`, in each round in which both had a turn."""
    wall: dict[Key, dict[int, float]] = {one: {}, other: {}}
    for turn in turns:
        if turn.key in wall:
            wall[turn.key][turn.round] = turn.wall
    both = sorted(wall[one].keys() & wall[other].keys())
    return [wall[other][number] / wall[one][number] for number in both]
