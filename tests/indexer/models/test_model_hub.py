"""Models of the hub, in a cache laid out as huggingface_hub lays it out: which commit is read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import huggingface_hub
import huggingface_hub.errors as hub_errors
import pytest
import transformers

from indexer.errors import NeurariumError
from indexer.models import load as model_module
from indexer.models.load import describe, load_model
from indexer.models.pretrained import hash_weights, load_tokenizer, pin_revision
from indexer.models.source import resolve_model
from tests.helpers.tiny_models import (
    VOCAB,
    add_to_hub_cache,
    point_hub_cache,
    save_tiny_gguf,
    save_tiny_model,
    shake,
    tiny_tokenizer,
)

MODEL = "someone/gpt2"
OLD, NEW = "a" * 40, "b" * 40


class Hub:
    """What stands in for the hub's one answer, which commit a revision is, and counts the asking.

    Everything else is read from the cache, with the network switched off."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.revisions: dict[str | None, str] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.error: Exception | None = None

    def model_info(self, repository: str, *, revision: str | None = None, **_: Any) -> Any:
        """What HfApi answers."""
        self.asked.append((repository, revision))
        if self.error is not None:
            raise self.error
        return SimpleNamespace(sha=self.revisions[revision])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """An empty cache, and a hub that answers one question."""
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub.cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "model_info",
        lambda _self, *args, **rest: hub.model_info(*args, **rest),
    )
    return hub


def saved(folder: Path, *, seed: int = 0, **options: Any) -> Path:
    """A tiny GPT-2 and its tokenizer, saved the way `options` say."""
    save_tiny_model(folder, "gpt2")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    if seed:
        shake(model, seed)
    model.save_pretrained(folder, **options)
    return folder


def as_bin(folder: Path, shards: int) -> Path:
    """Rewrite a model's safetensors as PyTorch's own files, as old repositories have them."""
    import torch
    from safetensors.torch import load_file

    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin")
        return folder
    names = [f"pytorch_model-{i + 1:05}-of-{shards:05}.bin" for i in range(shards)]
    where = {key: names[i % shards] for i, key in enumerate(sorted(state))}
    for name in names:
        torch.save({key: state[key] for key in where if where[key] == name}, folder / name)
    index = {"metadata": {}, "weight_map": where}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("form", ["one", "shards", "bin", "bin shards"])
def test_the_weights_of_the_hub_are_hashed_file_by_file(
    hub: Hub, tmp_path: Path, form: str
) -> None:
    """One file or several, safetensors or not: the files loaded are hashed, as in a folder, and no
    file that loading did not need is asked for."""
    options = {"max_shard_size": "20KB"} if form == "shards" else {}
    folder = saved(tmp_path / "model", **options)
    if form.startswith("bin"):
        as_bin(folder, 2 if form == "bin shards" else 1)
    assert (len(list(folder.glob("*.index.json"))) == 1) is ("shards" in form)
    snapshot = add_to_hub_cache(hub.cache, MODEL, NEW, folder)
    hub.revisions[None] = NEW
    with pytest.raises(hub_errors.LocalEntryNotFoundError):  # what asking for all of it would do
        huggingface_hub.snapshot_download(MODEL, revision=NEW, local_files_only=True)
    model = load_model(resolve_model(MODEL))
    assert not (snapshot / "README.md").exists()
    assert model.weights_hash == load_model(resolve_model(str(folder))).weights_hash
    assert model.source.commit == NEW


def test_a_moving_branch_is_resolved_once(hub: Hub, tmp_path: Path) -> None:
    """Configuration, tokenizer and weights are of one commit, though the branch moves between."""
    first, second = saved(tmp_path / "first"), saved(tmp_path / "second", seed=5)
    add_to_hub_cache(hub.cache, MODEL, OLD, first)
    add_to_hub_cache(hub.cache, MODEL, NEW, second)
    hub.revisions["step3"] = OLD
    source = pin_revision(resolve_model(MODEL, "step3"))
    assert source.commit == OLD
    hub.revisions["step3"] = NEW
    point_hub_cache(hub.cache, MODEL, "step3", NEW)
    description = describe(source)
    tokens = load_tokenizer(source)
    model = load_model(source, tokens=tokens, description=description)
    assert hub.asked == [(MODEL, "step3")]
    assert (model.source.commit, model.source.checkpoint) == (OLD, None)
    assert model.weights_hash == load_model(resolve_model(str(first))).weights_hash
    assert load_model(resolve_model(MODEL, "step3")).source.commit == NEW


def test_resolving_a_name_asks_nobody(hub: Hub) -> None:
    """`resolve_model` uses no network; what is on this machine, or a commit already, needs none."""
    assert resolve_model(MODEL).commit is None
    assert hub.asked == []
    assert pin_revision(resolve_model("demo")).commit is None
    assert pin_revision(resolve_model(MODEL, OLD)).commit == OLD
    pinned = replace(resolve_model(MODEL, "main"), commit=NEW)
    assert pin_revision(pinned) is pinned
    assert hub.asked == []


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ConnectError("Name or service not known"),
        hub_errors.OfflineModeIsEnabled("offline"),
        hub_errors.HfHubHTTPError(
            "down", response=httpx2.Response(503, request=httpx2.Request("GET", "https://hub"))
        ),
    ],
)
def test_without_network_the_commit_is_the_caches(
    hub: Hub, tmp_path: Path, error: Exception
) -> None:
    """What was resolved once is known without network, under the branch that was asked for."""
    add_to_hub_cache(hub.cache, MODEL, NEW, saved(tmp_path / "model"))
    hub.revisions = {None: NEW, "v1": OLD}
    pin_revision(resolve_model(MODEL))
    pin_revision(resolve_model(MODEL, "v1"))
    hub.error = error
    assert pin_revision(resolve_model(MODEL)).commit == NEW
    assert pin_revision(resolve_model(MODEL, "main")).commit == NEW
    assert pin_revision(resolve_model(MODEL, "v1")).commit == OLD
    assert load_model(resolve_model(MODEL)).source.commit == NEW
    with pytest.raises(NeurariumError, match=r"'v2'|refused"):
        pin_revision(resolve_model(MODEL, "v2"))


def test_what_the_hub_refuses_is_not_looked_up_in_the_cache(hub: Hub) -> None:
    """A revision the hub says is not there is an error, whatever the cache remembers."""
    point_hub_cache(hub.cache, MODEL, "gone", OLD)
    hub.error = hub_errors.RevisionNotFoundError(
        "gone", response=httpx2.Response(404, request=httpx2.Request("GET", "https://hub"))
    )
    with pytest.raises(NeurariumError, match=r"has no revision 'gone': check --revision"):
        describe(resolve_model(MODEL, "gone"))


def test_a_cache_that_cannot_be_written_is_no_failure(hub: Hub, tmp_path: Path) -> None:
    """The commit is kept for later if it can be, and used now in any case."""
    tmp_path.joinpath("hub").write_text("a file where the cache's folder should be")
    hub.revisions[None] = NEW
    assert pin_revision(resolve_model(MODEL)).commit == NEW


def test_weights_that_vanish_are_told(hub: Hub, tmp_path: Path) -> None:
    """Weights that were loaded and then cleared from the cache cannot be hashed; no traceback."""
    snapshot = add_to_hub_cache(hub.cache, MODEL, NEW, saved(tmp_path / "model"))
    hub.revisions[None] = NEW
    source = pin_revision(resolve_model(MODEL))
    model = load_model(source)
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(NeurariumError, match=r"weights of 'someone/gpt2' .* cache"):
        hash_weights(source, model.root)


def test_a_model_is_called_by_its_id(hub: Hub, tmp_path: Path) -> None:
    """An alias of Neuroscope's stands for its hub id, a path for its last part."""
    folder = saved(tmp_path / "model")
    add_to_hub_cache(hub.cache, "EleutherAI/pythia-410m", NEW, folder)
    hub.revisions = {None: NEW, "step7": OLD}
    alias = load_model(resolve_model("pythia-350m"))
    assert (alias.source.model_id, alias.source.label) == ("EleutherAI/pythia-410m", "pythia-350m")
    assert alias.tokens.name == "EleutherAI/pythia-410m"
    local = load_model(resolve_model(str(folder)))
    assert local.source.model_id == "model"
    assert local.tokens.name == type(local.tokens.tokenizer).__name__
    assert resolve_model("demo").model_id == "demo"
    assert resolve_model("solu-1l").model_id == "NeelNanda/SoLU_1L512W_C4_Code"
    gguf = save_tiny_gguf(tmp_path / "tiny.Q8.gguf")
    assert resolve_model(str(gguf)).model_id == "tiny.Q8.gguf"
    assert "/" not in load_model(resolve_model(str(gguf))).tokens.name


def test_a_description_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that was read to refuse early is not read a second time to load."""
    source = resolve_model(str(save_tiny_gguf(tmp_path / "tiny.gguf")))
    description, tokens = describe(source), load_tokenizer(source)
    plain = load_model(source)

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("read twice")

    monkeypatch.setattr(model_module, "describe", refused)
    monkeypatch.setattr(model_module, "load_config", refused)
    again = load_model(source, tokens=tokens, description=description)
    assert (again.weights_hash, again.units.widths) == (plain.weights_hash, plain.units.widths)
    assert again.layout is description.layout
    assert len(again.vocabulary()) == again.d_vocab == VOCAB - 4 == description.vocab_size


def test_the_tokenizer_comes_from_the_pinned_commit(hub: Hub, tmp_path: Path) -> None:
    """A tokenizer that another commit replaced is not the one that is loaded."""
    first, second = saved(tmp_path / "first"), saved(tmp_path / "second")
    tiny_tokenizer(bos=None).save_pretrained(second)
    add_to_hub_cache(hub.cache, MODEL, OLD, first)
    add_to_hub_cache(hub.cache, MODEL, NEW, second)
    point_hub_cache(hub.cache, MODEL, "main", NEW)
    pinned = replace(resolve_model(MODEL), commit=OLD)
    assert load_tokenizer(pinned).bos_token_id == 1
    assert load_tokenizer(replace(pinned, commit=NEW)).bos_token_id is None
