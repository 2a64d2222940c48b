"""A run divided into shards, and into slices of layers, has the content of one piece."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from indexer.config import Execution, IndexConfig
from indexer.errors import NeurariumError
from indexer.run.checkpoint import RunFolder
from indexer.run.shard import Shard
from indexer.run.shards import merge, scan_shard
from indexer.run.stopping import Stopped
from indexer.scan import slices
from tests.conftest import Silent
from tests.helpers.small_latents import latents_config
from tests.helpers.stopped_runs import OFTEN, Place, stopped_after


def test_shards_and_stops_make_a_run_of_latents(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one go, stopped and carried on, and in three shards, each layer cut: one content."""
    config = replace(latents_config(tmp_path / "small"), batch_tokens=256)
    place.index(config, Execution())
    monkeypatch.setattr(slices, "LEAST_UNITS", 4)
    little = replace(OFTEN, memory=50_000)
    again = Place(tmp_path / "again")
    (tmp_path / "again").mkdir()
    with stopped_after(monkeypatch, 4), pytest.raises(Stopped):
        again.index(config, little)
    (unfinished,) = again.unfinished()
    assert [part.name for part in RunFolder(unfinished).facts.slices] == [
        f"layers-{layer}-{layer}-units-{first}-{end}"
        for layer in (0, 1)
        for first, end in ((0, 8), (8, 16))
    ]
    little = replace(little, checkpoint_seconds=600)
    assert any("resuming after" in line for line in again.index(config, little))
    assert again.hashes() == place.hashes()
    with pytest.raises(NeurariumError, match="4 units of layer 0 need"):
        again.index(config, replace(little, memory=5_000))
    sharded = Place(tmp_path / "sharded")
    (tmp_path / "sharded").mkdir()
    state = tmp_path / "state"
    for number in (3, 1, 2):
        in_parts = replace(little, state=state)
        scan_shard(config, Shard(number, 3), sharded.cache, Silent(), in_parts)
    merge(state, sharded.url, sharded.cache, Silent(), Execution())
    assert sharded.hashes() == place.hashes()


@pytest.mark.parametrize("count", [1, 3])
def test_shards_make_the_run(
    place: Place, config: IndexConfig, tmp_path: Path, expected: str, count: int
) -> None:
    """Scanned apart and in any order, merged: the content of one piece."""
    state = tmp_path / "state"
    execution = replace(OFTEN, state=state)
    for number in range(count, 0, -1):
        if number == 1 and count > 1:
            with pytest.raises(NeurariumError, match="shard-1-of-3 is not in"):
                merge(state, place.url, place.cache, Silent(), Execution())
        scan_shard(config, Shard(number, count), place.cache, Silent(), execution)
    outcome = merge(state, place.url, place.cache, Silent(), Execution())
    assert (outcome.run_id, place.hashes()) == (1, [expected])
    assert merge(state, place.url, place.cache, Silent(), Execution()).run_id == 1
    assert place.hashes() == [expected]


def test_shards_that_do_not_fit_are_refused(
    place: Place, config: IndexConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not finished, of other arguments, of two divisions, none at all, not understood."""
    state = tmp_path / "state"
    execution = replace(OFTEN, state=state)
    scan_shard(config, Shard(2, 2), place.cache, Silent(), execution)
    with stopped_after(monkeypatch, 2), pytest.raises(Stopped):
        scan_shard(config, Shard(1, 2), place.cache, Silent(), execution)
    with pytest.raises(NeurariumError, match="shard-1-of-2 is not finished"):
        merge(state, place.url, place.cache, Silent(), Execution())
    with pytest.raises(NeurariumError, match="--seed was 0 and is 1"):
        scan_shard(replace(config, seed=1), Shard(1, 2), place.cache, Silent(), execution)
    anew = replace(execution, restart=True)
    scan_shard(replace(config, seed=1), Shard(1, 2), place.cache, Silent(), anew)
    with pytest.raises(NeurariumError, match="shard-2-of-2, and --seed was 0 and is 1"):
        merge(state, place.url, place.cache, Silent(), Execution())
    (state / "shard-1-of-3").mkdir()
    with pytest.raises(NeurariumError, match="shards of several runs, of 2 and of 3 shards"):
        merge(state, place.url, place.cache, Silent(), Execution())
    with pytest.raises(NeurariumError, match="holds no shards"):
        merge(tmp_path / "nothing", place.url, place.cache, Silent(), Execution())
    with pytest.raises(NeurariumError, match="needs --state"):
        scan_shard(config, Shard(1, 2), place.cache, Silent(), Execution())
    for bad in ("0/2", "3/2", "2", "a/b", "1/0", "-1/2", ""):
        with pytest.raises(NeurariumError, match="is not recognised"):
            Shard.parse(bad)
    assert Shard.parse("2/8") == Shard(2, 8)
    assert place.hashes() == []
