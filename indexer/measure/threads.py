"""Shares of one piece of work on as many threads as torch has on a CPU. Pure but for torch.

For work that numpy and torch do without Python's lock, so that threads are enough.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def in_threads(work: Callable[[slice], None], shares: Sequence[slice]) -> None:
    """Do each share, and return when all are done. What one raises is raised."""
    threads = torch.get_num_threads()
    if len(shares) <= 1 or threads == 1:
        for some in shares:
            work(some)
        return
    # Inference mode is a thread's own, and what was made in it can be filled in it alone.
    list(_pool(threads).map(torch.inference_mode()(work), shares))


def even_shares(count: int, most: int, multiple: int = 1) -> list[slice]:
    """`count` things in shares for all threads, each of `most` at most, of a multiple of so many
    except for the last."""
    each = -(-count // torch.get_num_threads())
    each = -(-min(each, most) // multiple) * multiple or multiple
    return [slice(start, min(start + each, count)) for start in range(0, count, each)]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that each run torch on one core: the setting is the calling thread's own."""
    ready = threading.Lock()

    def alone() -> None:
        with ready:
            torch.set_num_threads(1)

    return ThreadPoolExecutor(threads, "scan", initializer=alone)
