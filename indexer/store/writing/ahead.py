"""Iterators that work ahead on threads, in order. numpy, torch, zstd and the database drivers
release the interpreter's lock meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _End:
    """Marks the end of the items."""


def ahead(items: Iterable[Item], most: int = 2) -> Generator[Item, None, None]:
    """The same items, produced on a thread, up to `most` of them ahead.

    An error while producing an item is raised when that item is due. Closing the generator waits
    for the items in progress.
    """
    end = _End()
    source = iter(items)
    with ThreadPoolExecutor(1) as thread:

        def begin() -> Future[Item | _End]:
            return thread.submit(next, source, end)

        pending = deque(begin() for _ in range(most))
        while not isinstance(item := pending.popleft().result(), _End):
            pending.append(begin())
            yield item


def mapped_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """`work` applied to each item, in order, on `threads` threads and as many items ahead."""
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
