"""Freed memory goes back to the system."""

from __future__ import annotations

import platform
from pathlib import Path

from indexer import memory


def test_freed_memory_is_given_back() -> None:
    """What is freed in the middle of the heap is not the process's any more (glibc; elsewhere the
    call does nothing)."""
    held = [bytes(10_000) for _ in range(20_000)]  # too small to be given back one by one
    last = held[-1]
    before = _resident()
    del held
    kept = before - _resident()
    memory.give_back()
    freed = before - _resident()
    assert len(last) == 10_000
    if platform.libc_ver()[0] == "glibc":
        assert freed > 150e6
        assert freed >= kept


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
