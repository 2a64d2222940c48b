"""Where a scan's time beyond the trunk goes: its own functions, each with a clock round it.

Apart from what is timed for the tables, which has no clock inside. A function's time is its own:
without that of another of these that it calls. On a GPU a function ends before its work does, and
whoever waits has the time.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from indexer.measure.layer import LayerBatch
from indexer.measure.selection import Payload, Selection
from indexer.scan import state as scan
from indexer.scan.sample import SampleScan
from indexer.scan.state import Scan

PIECES: tuple[tuple[str, Any, str], ...] = (
    ("extremes over positions", LayerBatch, "extremes"),
    ("choosing winners", Selection, "entering"),
    ("gathering examples", LayerBatch, "gather"),
    ("describing examples, in 8 bits", LayerBatch, "describe"),
    ("keeping winners", Selection, "admit"),
    ("keeping their examples", Payload, "put"),
    ("the sample: sums", SampleScan, "sums"),
    ("the sample: adding sums up", SampleScan, "add_sums"),
    ("the sample: choosing its examples", SampleScan, "wanted"),
    ("bringing readings over", scan, "to_host"),
    ("the rest of a step", Scan, "add"),
)
"""What a piece is called, and the function it is."""


class Clocks:
    """Seconds of each piece so far, by the wall and of all threads."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = defaultdict(float)
        self.processor: dict[str, float] = defaultdict(float)
        self._inside: list[tuple[float, float]] = []

    def around(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with a clock."""

        def clocked(*args: Any, **kwargs: Any) -> Any:
            self._inside.append((0.0, 0.0))
            wall, processor = time.perf_counter(), time.process_time()
            try:
                return work(*args, **kwargs)
            finally:
                wall, processor = time.perf_counter() - wall, time.process_time() - processor
                inside = self._inside.pop()
                self.wall[name] += wall - inside[0]
                self.processor[name] += processor - inside[1]
                if self._inside:
                    outer = self._inside.pop()
                    self._inside.append((outer[0] + wall, outer[1] + processor))

        return clocked


@contextmanager
def clocked(clocks: Clocks) -> Iterator[None]:
    """Put a clock round every piece, and take it off again."""
    plain = [(owner, attribute, getattr(owner, attribute)) for _, owner, attribute in PIECES]
    for (name, owner, attribute), (_, _, work) in zip(PIECES, plain, strict=True):
        setattr(owner, attribute, clocks.around(name, work))
    try:
        yield
    finally:
        for owner, attribute, work in plain:
            setattr(owner, attribute, work)
