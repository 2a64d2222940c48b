"""Rounds: everything that is compared has its turn on each batch, in another order every time, so
that what else the machine does falls on all alike. Then what came of it, as speeds and ratios.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from indexer.corpus.batches import Batch

Part = Literal["sample", "rest", "late", "whole"]
PARTS: tuple[Part, ...] = ("sample", "rest", "late", "whole")
"""Late is the rest's last quarter: fewer and fewer contexts still enter a list, so a long run is
like it, or faster."""


@dataclass(frozen=True)
class Contestant:
    """Something that is done with every batch, or with every so many."""

    way: str
    dtype: str
    run: Callable[[Batch], object]
    every: int = 1

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the others."""
        return self.way, self.dtype


@dataclass(frozen=True)
class Turn:
    """What one contestant took for one batch."""

    way: str
    dtype: str
    batch: int
    part: Part
    tokens: int
    """Included positions."""
    wall: float
    """Seconds."""
    processor: float
    """Seconds of all threads together; a thread that waits in a loop counts."""


@dataclass(frozen=True)
class Quartiles:
    """A median and what it lies between."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Speed:
    """What one contestant reached over a part of the run."""

    way: str
    dtype: str
    part: Part
    batches: int
    tokens: int
    wall: float
    """Sum of seconds."""
    processor: float
    """Sum of seconds of all threads."""
    tokens_a_second: float
    """All tokens by all seconds."""
    by_batch: Quartiles
    """Tokens a second of each batch."""
    of_trunk: float | None
    """The trunk's sum of seconds by its own, on the same batches: 1 is the limit. What holds the
    machine up for a while is in it."""
    of_trunk_by_batch: Quartiles | None
    """The same of each batch."""
    of_trunk_processor: float | None
    """The same of processor time."""


def interleave(
    contestants: Sequence[Contestant],
    batches: Iterable[Batch],
    device: torch.device,
    seed: int,
) -> list[Turn]:
    """Give every contestant its turn on each batch, in a random order drawn with the seed."""
    order = random.Random(seed)
    turns: list[Turn] = []
    for number, batch in enumerate(batches):
        for one in order.sample(contestants, len(contestants)):
            if number % one.every:
                continue
            wall, processor = _timed(one.run, batch, device)
            tokens = int(batch.included.sum())
            turns.append(Turn(one.way, one.dtype, number, part_of(batch), tokens, wall, processor))
    return turns


def part_of(batch: Batch) -> Part:
    """Whether a batch is of the sample, on which more is measured, or of the rest."""
    return "rest" if batch.part == "rest" else "sample"


def _timed(
    run: Callable[[Batch], object], batch: Batch, device: torch.device
) -> tuple[float, float]:
    """Wall and processor seconds; a CUDA device is waited for before each look at the clock."""
    _wait(device)
    wall, processor = time.perf_counter(), time.process_time()
    run(batch)
    _wait(device)
    return time.perf_counter() - wall, time.process_time() - processor


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def speeds(turns: Sequence[Turn], trunk: str) -> list[Speed]:
    """Every contestant's speed over each part that has batches, beside the trunk's of its dtype."""
    limits = {(turn.dtype, turn.batch): turn for turn in turns if turn.way == trunk}
    rest = sorted({turn.batch for turn in turns if turn.part == "rest"})
    late = set(rest[-(len(rest) // 4) :]) if len(rest) >= 4 else set()
    found: list[Speed] = []
    for key in dict.fromkeys((turn.dtype, turn.way) for turn in turns):
        own = [turn for turn in turns if (turn.dtype, turn.way) == key]
        for part in PARTS:
            some = [turn for turn in own if part in (turn.part, "whole")]
            if part == "late":
                some = [turn for turn in own if turn.batch in late]
            if some:
                beside = [limits.get((turn.dtype, turn.batch)) for turn in some]
                found.append(_speed(part, some, [limit for limit in beside if limit is not None]))
    return found


def _speed(part: Part, turns: Sequence[Turn], limits: Sequence[Turn]) -> Speed:
    tokens = sum(turn.tokens for turn in turns)
    wall = sum(turn.wall for turn in turns)
    processor = sum(turn.processor for turn in turns)
    compared = len(limits) == len(turns)
    return Speed(
        way=turns[0].way,
        dtype=turns[0].dtype,
        part=part,
        batches=len(turns),
        tokens=tokens,
        wall=wall,
        processor=processor,
        tokens_a_second=tokens / wall,
        by_batch=quartiles([turn.tokens / turn.wall for turn in turns]),
        of_trunk=sum(limit.wall for limit in limits) / wall if compared else None,
        of_trunk_by_batch=quartiles(
            [limit.wall / turn.wall for limit, turn in zip(limits, turns, strict=True)]
        )
        if compared
        else None,
        of_trunk_processor=sum(limit.processor for limit in limits) / processor
        if compared
        else None,
    )


def quartiles(values: Sequence[float]) -> Quartiles:
    """The median, and a quarter of the values below and above."""
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(low, median, high)


def faster(turns: Sequence[Turn], one: tuple[str, str], other: tuple[str, str]) -> float | None:
    """How many times faster `one` (way, dtype) is than `other`, on the batches that both had."""
    wall: dict[tuple[str, str], dict[int, float]] = {one: {}, other: {}}
    for turn in turns:
        key = (turn.way, turn.dtype)
        if key in wall:
            wall[key][turn.batch] = turn.wall
    both = wall[one].keys() & wall[other].keys()
    if not both:
        return None
    return statistics.median(wall[other][batch] / wall[one][batch] for batch in both)


def of_trunk_at(
    found: Sequence[Speed], way: str, trunk: str, dtype: str, tokens: int
) -> float | None:
    """What `way` would reach of the trunk's speed in a run of so many tokens: the medians of its
    sample's batches and of the rest's late ones (all, where there are fewer than four), each for
    its tokens. None where either was not measured on every batch."""
    by_part = {(one.way, one.part): one for one in found if one.dtype == dtype}
    after: Part = "late" if (trunk, "late") in by_part else "rest"
    return _together(by_part, way, trunk, after, tokens)


def of_trunk_whole(
    found: Sequence[Speed], way: str, trunk: str, dtype: str, tokens: int
) -> float | None:
    """What `way` reached of the trunk's speed in this run of so many tokens: as `of_trunk_at`, with
    all of the rest."""
    by_part = {(one.way, one.part): one for one in found if one.dtype == dtype}
    return _together(by_part, way, trunk, "rest", tokens)


def _together(
    by_part: dict[tuple[str, Part], Speed], way: str, trunk: str, after: Part, tokens: int
) -> float | None:
    try:
        sample, rest = by_part[way, "sample"], by_part[way, after]
        limits = by_part[trunk, "sample"], by_part[trunk, after]
    except KeyError:
        return None
    if (sample.batches, rest.batches) != (limits[0].batches, limits[1].batches):
        return None
    if sample.of_trunk_by_batch is None or rest.of_trunk_by_batch is None:
        return None
    share = min(1.0, sample.tokens / tokens)
    in_sample, in_rest = sample.of_trunk_by_batch.median, rest.of_trunk_by_batch.median
    return 1 / (share / in_sample + (1 - share) / in_rest)
