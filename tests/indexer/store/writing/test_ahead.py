"""Working ahead gives the same items in the same order, at most as far ahead as asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from indexer.store.writing.ahead import ahead, mapped_ahead


def test_items_come_in_order_from_another_thread() -> None:
    """All items once, including None."""
    threads = set()

    def made() -> Iterator[int | None]:
        for number in (3, None, 1, 2):
            threads.add(threading.get_ident())
            yield number

    assert list(ahead(made())) == [3, None, 1, 2]
    assert list(ahead([])) == []
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_no_more_is_made_than_is_wanted_soon() -> None:
    """At most `most` items are ahead, since they take memory."""
    begun = []

    def made() -> Iterator[int]:
        for number in range(100):
            begun.append(number)
            yield number

    items = ahead(made(), most=2)
    for number in range(10):
        assert next(items) == number
        assert len(begun) <= number + 3
    items.close()
    assert len(begun) <= 13


def test_what_goes_wrong_is_heard_in_its_place() -> None:
    """Earlier items arrive, later ones do not, and no thread is left."""

    def made() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("the disk is gone")

    before = threading.active_count()
    items = ahead(made())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)
    assert threading.active_count() == before


def test_who_stops_asking_leaves_no_thread() -> None:
    """An error in the consumer stops the producer."""
    before = threading.active_count()

    def use() -> None:
        for number in ahead(range(1_000)):
            if number == 3:
                raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        use()
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_work_on_many_threads_keeps_the_order(threads: int) -> None:
    """Results are in order, whichever finishes first; errors are raised in their turn."""
    last = threading.Event()

    def work(number: int) -> int:
        if number == 0 and threads > 1:
            assert last.wait(10)  # the second finishes before the first
        last.set()
        return 2 * number

    assert list(mapped_ahead(work, range(20), threads)) == [2 * number for number in range(20)]
    halves = mapped_ahead(lambda number: 1 // (3 - number), range(9), threads)
    assert [next(halves) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(halves)
