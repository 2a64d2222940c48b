"""Work divided among as many threads as torch has on a CPU.

For numpy and torch calls that release Python's lock, so threads are enough.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def in_threads(work: Callable[[slice], None], shares: Sequence[slice]) -> None:
    """Call `work` on each share, and return when all are done. Raises what a call raises."""
    threads = torch.get_num_threads()
    if len(shares) <= 1 or threads == 1:
        for share in shares:
            work(share)
        return
    # Inference mode is per thread, and tensors created in it can be changed only in it.
    list(_pool(threads).map(torch.inference_mode()(work), shares))


def even_shares(count: int, most: int, multiple: int = 1) -> list[slice]:
    """Slices of `count` items for all threads, each of at most `most` items, and except for the
    last a multiple of `multiple`."""
    each = -(-count // torch.get_num_threads())
    each = -(-min(each, most) // multiple) * multiple or multiple
    return [slice(start, min(start + each, count)) for start in range(0, count, each)]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """A pool of threads that each run torch on one core; torch keeps this setting per thread."""
    ready = threading.Lock()

    def alone() -> None:
        with ready:
            torch.set_num_threads(1)

    return ThreadPoolExecutor(threads, "scan", initializer=alone)
