"""A small run, and the content that it has however it is stopped, cut or divided."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.config import Execution, IndexConfig
from tests.helpers.kill_runs import neurons_config
from tests.helpers.stopped_runs import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> IndexConfig:
    """The run that tests stop, cut and carry on."""
    return neurons_config(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def expected(config: IndexConfig, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The content hash of a run that nothing disturbed."""
    undisturbed = Place(tmp_path_factory.mktemp("plain"))
    undisturbed.index(config, Execution())
    (found,) = undisturbed.hashes()
    return found
