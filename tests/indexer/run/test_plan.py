"""What a run is announced to take in the database, against what it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.config import IndexConfig
from indexer.demo import DICTIONARIES
from indexer.run.index import index
from indexer.run.plan import make_plan
from indexer.scan.choice import resolve
from indexer.scan.job import load, prepare
from indexer.store.database import open_store
from tests.conftest import Silent, demo_run
from tests.helpers.tiny_heads import SMALL_RUN


@pytest.mark.parametrize("units", ["neurons", "heads", "latents"])
def test_bytes_in_the_store(units: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Runs of the demo take what they were announced to take, within 30%."""
    if units == "neurons":
        config, url = demo_run(), request.getfixturevalue("demo_store")
    elif units == "heads":
        config, (url, _) = SMALL_RUN, request.getfixturevalue("heads_store")
    else:
        url = f"sqlite:///{tmp_path / 'store.db'}"
        dictionary = str(DICTIONARIES[0])
        config = IndexConfig(model="demo", max_tokens=12_000, sample=100, dictionary=dictionary)
        index(config, url, tmp_path / "cache", Silent())
    choice = resolve(config)
    job = load(choice, prepare(choice, tmp_path / "cache", Silent()), Silent())
    empty = tmp_path / "empty.db"
    open_store(f"sqlite:///{empty}", create=True).dispose()
    taken = Path(url.removeprefix("sqlite:///")).stat().st_size - empty.stat().st_size
    assert make_plan(job).store_bytes == pytest.approx(taken, rel=0.3)
