"""Work done ahead of who asks for it, on threads, in order: what numpy, torch, zstd and the
databases' drivers do lets other threads run meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


class _End:
    """What follows the last item."""


def ahead(items: Iterable[Item], most: int = 2) -> Generator[Item, None, None]:
    """The same items, made on a thread of their own, `most` of them before they are asked for.

    What making one raises comes where it is asked for. Who stops asking waits for those begun.
    """
    end = _End()
    source = iter(items)
    with ThreadPoolExecutor(1) as thread:

        def begin() -> Future[Item | _End]:
            return thread.submit(next, source, end)

        coming = deque(begin() for _ in range(most))
        while not isinstance(item := coming.popleft().result(), _End):
            coming.append(begin())
            yield item


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
