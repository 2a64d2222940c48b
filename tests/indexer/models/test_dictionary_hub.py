"""Dictionaries of hub repositories: what the local cache has, and when the hub is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from indexer.errors import NeurariumError
from indexer.models.dictionaries.layouts import read_dictionaries
from tests.helpers.dictionary_files import save_own, some, weights
from tests.helpers.tiny_models import add_to_hub_cache, point_hub_cache


def test_the_hub_is_not_asked_for_what_the_cache_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files that the repository had when it was last heard of; else it is asked, and what the
    cache has counts if nobody answers."""
    asked: list[str] = []

    def down(_self: Any, repository: str, **_: Any) -> None:
        asked.append(repository)
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", down)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for layer in (0, 1):
        file = tmp_path / "files" / f"layer_{layer}" / "own.safetensors"
        save_own(file, some(weights(layer), "W_enc"), hook_point=f"blocks.{layer}.hook_resid_pre")
    commit, name = "a" * 40, "owner/name"
    snapshot = add_to_hub_cache(tmp_path / "hub", name, commit, tmp_path / "files")
    point_hub_cache(tmp_path / "hub", name, "main", commit)
    assert [one.hook.layer for one in read_dictionaries(name)] == [0, 1]
    assert [one.hook.layer for one in read_dictionaries(f"{name}:layer_1")] == [1]
    assert asked == []
    (snapshot / "layer_0" / "own.safetensors").unlink()
    assert [one.hook.layer for one in read_dictionaries(f"{name}:layer_1")] == [1]
    with pytest.raises(NeurariumError, match="owner/name is not on this machine"):
        read_dictionaries(name)
    assert asked == [name]


def test_the_hub_is_asked_once_and_its_no_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is no path is a repository; without a network that is said in a line."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def down(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", down)
    with pytest.raises(NeurariumError, match=r"owner/name/layer_3 is not on this machine.*no net"):
        read_dictionaries("owner/name:layer_3")
