"""A small verified run, shared by the tests that plant faults in copies of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.verify_cases import SmallRun, lines_of, make, save_llama, verified


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run of a tiny gated model in float32, with windows shorter than its contexts."""
    folder = tmp_path_factory.mktemp("faults")
    small = make(folder / "run", save_llama(folder / "llama"), window=9)
    assert lines_of(verified(small)) == []
    return small


@pytest.fixture
def small(clean: SmallRun, tmp_path: Path) -> SmallRun:
    """A copy of the run in its own store, to be damaged."""
    return clean.copy(tmp_path)
