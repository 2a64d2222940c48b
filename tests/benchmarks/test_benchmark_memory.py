"""The benchmark of memory scans what it says, with the state it says."""

from __future__ import annotations

import platform
from pathlib import Path

from benchmarks.scan import memory, shapes
from indexer import memory as scan_memory
from indexer.run import passes


def test_a_thin_model_is_scanned_whole(tmp_path: Path) -> None:
    """As many neurons and contexts as asked for; what is expected is what a run would say."""
    model = memory.write_model(tmp_path, 2, 24, seed=0)
    corpus = shapes.write_corpus(tmp_path, 128, 4_000, seed=0)
    kept = passes._check_memory
    try:
        few, more = (memory.measure(model, corpus, tokens) for tokens in (1_000, 4_000))
    finally:
        passes._check_memory = kept
    assert few.neurons == more.neurons == 48
    assert few.passes == more.passes == 1
    assert 700 < few.tokens <= 1_000 < 3_000 < more.tokens <= 4_000
    assert few.contexts < more.contexts
    assert 0 < few.expected <= more.expected  # a sample that is all of few contexts
    assert more.used >= 0
    assert list(tmp_path.glob("tmp*")) == []


def test_freed_memory_is_given_back() -> None:
    """What is freed in the middle of the heap is not the process's any more (glibc; elsewhere the
    call does nothing)."""
    held = [bytes(10_000) for _ in range(20_000)]  # too small to be given back one by one
    last = held[-1]
    before = _resident()
    del held
    kept = before - _resident()
    scan_memory.give_back()
    freed = before - _resident()
    assert len(last) == 10_000
    if platform.libc_ver()[0] == "glibc":
        assert freed > 150e6
        assert freed >= kept


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
