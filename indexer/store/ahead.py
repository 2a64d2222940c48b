"""Work done ahead of who asks for it, on threads, in order: what numpy, torch, zstd and the
databases' drivers do lets other threads run meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(items: Iterable[Item], most: int = 2) -> Iterator[Item]:
    """The same items, made on a thread of their own, `most` of them before they are asked for.

    What making one raises comes where it is asked for. Who stops asking waits for those begun.
    """
    end = object()
    source = iter(items)
    with ThreadPoolExecutor(1) as thread:

        def begin() -> Future[Item | object]:
            return thread.submit(next, source, end)

        coming = deque(begin() for _ in range(most))
        while (item := coming.popleft().result()) is not end:
            coming.append(begin())
            yield item  # type: ignore[misc]


def mapped_ahead(
    work: Callable[[Item], Made], items: Iterable[Item], threads: int
) -> Iterator[Made]:
    """`work` on each item, in the order of the items, on so many threads and as many ahead."""
    with ThreadPoolExecutor(threads) as pool:
        coming: deque[Future[Made]] = deque()
        for item in items:
            coming.append(pool.submit(work, item))
            if len(coming) > threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
