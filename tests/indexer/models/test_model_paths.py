"""Models that are links, or that were named by a relative path, and weights that are left over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from indexer.config import IndexConfig
from indexer.demo import ATTENTION_ONLY, DICTIONARIES
from indexer.errors import NeurariumError
from indexer.models.dictionaries.names import local_path
from indexer.models.load import load_model
from indexer.models.pretrained import load_causal_lm, load_config
from indexer.models.reload import wanted
from indexer.models.source import resolve_model
from indexer.scan.choice import resolve
from tests.helpers.tiny_models import save_tiny_gguf, save_tiny_model


def provenance_of(asked: str, commit: str | None = None) -> dict[str, Any]:
    """A run's provenance as far as it says where the model is."""
    return {
        "model": {
            "asked_for": asked,
            "asked_revision": None,
            "revision": commit,
            "weights_hash": "",
        },
        "tokenizer": {"identity": ""},
        "capture": {"hook_point": "mlp.hook_post", "dtype": "float32", "device": "cpu"},
    }


def test_a_linked_folder_keeps_its_name(tmp_path: Path) -> None:
    """The name in URLs is that of the link, not of the folder it leads to."""
    save_tiny_model(tmp_path / "store-77", "llama")
    (tmp_path / "my-model").symlink_to(tmp_path / "store-77")
    source = resolve_model(str(tmp_path / "my-model"))
    assert (source.url_name, source.model_id) == ("my-model", "my-model")
    assert source.location == str(tmp_path / "my-model")
    assert load_model(source).weights_hash


def test_a_linked_gguf_file_keeps_its_name(tmp_path: Path) -> None:
    """A hub cache's link to a blob without an ending is loaded by the link's name."""
    blob = save_tiny_gguf(tmp_path / "a.gguf").rename(tmp_path / "9f86d081884c")
    (tmp_path / "small.gguf").symlink_to(blob.name)
    source = resolve_model(str(tmp_path / "small.gguf"))
    assert (source.url_name, source.model_id) == ("small", "small.gguf")
    assert load_config(source).vocab_size


def test_what_is_stored_finds_the_model_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths become absolute in the settings; names stay as they are."""
    save_tiny_model(tmp_path / "m", "llama")
    (tmp_path / "c").mkdir()
    monkeypatch.chdir(tmp_path)
    choice = resolve(IndexConfig(model="m", corpus="c"))
    assert (choice.config.model, choice.config.corpus) == (
        str(tmp_path / "m"),
        str(tmp_path / "c"),
    )
    assert choice.source.label == "m"
    assert resolve(IndexConfig(model="demo")).config == IndexConfig(model="demo")
    named = IndexConfig(model="gpt2-small", corpus="owner/name:en")
    assert resolve(named).config == named
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert wanted(provenance_of(choice.source.reference)).source.kind == "folder"


@pytest.mark.parametrize("asked", ["m", "models/m", "{folder}/m", "m.gguf"])
def test_what_was_on_this_machine_is_not_asked_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """A moved model is missed by name, also one that an older run stored by a relative path."""
    monkeypatch.chdir(tmp_path)
    kind = "file" if asked.endswith(".gguf") else "folder"
    with pytest.raises(NeurariumError, match=rf"The {kind} .* is not here \(moved\?\)") as caught:
        wanted(provenance_of(asked.format(folder=tmp_path)))
    assert "--model-path" in str(caught.value)


def test_a_moved_model_is_found_at_its_new_path(tmp_path: Path) -> None:
    """`--model-path` says where it is now."""
    folder = save_tiny_model(tmp_path / "new", "llama")
    what = wanted(provenance_of(str(tmp_path / "old")), folder)
    assert what.source.location == str(folder)


def test_what_is_bundled_is_stored_by_name(tmp_path: Path) -> None:
    """The package may move: its path is nowhere in a run, and the path in an older run is no
    matter. A file beside it that only has such a name is the user's."""
    sae, transcoder = DICTIONARIES
    config = resolve(IndexConfig(model="demo", dictionary=f"{sae},demo:{transcoder.stem}")).config
    assert config.dictionary == "demo:residual-sae,demo:mlp-transcoder"
    induction = resolve(IndexConfig(model="demo:induction"))
    assert (induction.config.model, induction.name) == ("demo:induction", "induction")
    old = tmp_path / "site-packages/indexer/demo"
    assert wanted(provenance_of("demo:induction")).source.location == str(ATTENTION_ONLY)
    assert wanted(provenance_of(str(old / "induction"))).source.location == str(ATTENTION_ONLY)
    stored = provenance_of("demo")
    before = old / "dictionaries" / sae.name
    for name in ("demo:residual-sae", str(before)):
        stored["capture"]["dictionary"] = name
        assert local_path(str(wanted(stored).asked.dictionary)) == sae
    before.parent.mkdir(parents=True)
    before.touch()
    assert local_path(str(wanted(stored).asked.dictionary)) == before
    with pytest.raises(NeurariumError, match="'demo:residual-sae' is a dictionary"):
        resolve(IndexConfig(model="demo:residual-sae"))


def test_a_moved_dictionary_is_found_at_its_new_path(tmp_path: Path) -> None:
    """It is missed by name, and never looked for on the hub."""
    stored = provenance_of("demo")
    kept, gone, new = (str(tmp_path / f"{name}.safetensors") for name in ("kept", "gone", "new"))
    for path in (kept, new):
        Path(path).touch()
    stored["capture"]["dictionary"] = f"{kept},{gone}"
    with pytest.raises(NeurariumError, match=rf"'{gone}' is not here \(moved\?\): .* with --dict"):
        wanted(stored)
    assert wanted(stored, None, f"{kept}, {new}").asked.dictionary == f"{kept},{new}"


def test_a_hub_model_is_still_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with a commit came from the hub."""
    monkeypatch.chdir(tmp_path)
    assert wanted(provenance_of("owner/name", "c0ffee")).source.kind == "hub"


def test_weights_that_are_not_used_are_named(tmp_path: Path) -> None:
    """A configuration that forgot the biases of its attention."""
    folder = save_tiny_model(tmp_path, "llama", attention_bias=True)
    config = json.loads((folder / "config.json").read_text())
    config["attention_bias"] = False
    (folder / "config.json").write_text(json.dumps(config))
    unused = load_model(resolve_model(str(folder))).unused_weights
    assert len(unused) == 8
    assert "model.layers.0.self_attn.q_proj.bias" in unused


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        *(("float8_e4m3fn", method) for method in ("fp8", "of a library nobody has", None)),
        *(("int8", method) for method in ("of a library nobody has", None)),
    ],
)
def test_scales_that_are_not_used_are_no_small_matter(
    tmp_path: Path, kind: str, method: str | None
) -> None:
    """Weights as they are stored are hundreds of times too large: they are scaled, or refused."""
    folder = save_tiny_model(tmp_path, "llama")
    path, name = folder / "model.safetensors", "model.layers.1.mlp.down_proj.weight"
    tensors = load_file(path)
    right = tensors[name]
    for key in [key for key in tensors if key.endswith("proj.weight")]:
        scale = tensors[key].abs().max() / (448 if kind.startswith("float") else 127)
        tensors[key] = (tensors[key] / scale).to(getattr(torch, kind))
        tensors[f"{key}_scale_inv"] = scale.reshape(1)
    save_file(tensors, path, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    if method is not None:
        config["quantization_config"] = {"quant_method": method, "weight_block_size": None}
    (folder / "config.json").write_text(json.dumps(config))
    source = resolve_model(str(folder))
    if method == "fp8":
        weight = load_model(source).root.get_parameter(name)
        torch.testing.assert_close(weight, right, rtol=0.07, atol=0.01)
    else:
        with pytest.raises(NeurariumError, match=r"are quantised .*weight_scale_inv and others"):
            load_model(source)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"mlp.down_proj.lora_A.weight": (4, 48)}, "hold an adapter.*lora_A.weight and 0 more"),
        ({"mlp.down_proj.ia3_l": (48,), "self_attn.q_proj.oft_r": (2,)}, "and 1 more"),
        ({"mlp.down_proj.base_layer.weight": (32, 48), "mlp.down_proj.weight": None}, "an adapter"),
        ({"mlp.down_proj.road_theta.default": (3,)}, "an adapter.*road_theta.default and 0 more"),
        ({"input_layernorm.ln_tuning_layers.a.weight": (32,), "mlp.up_proj.hra_u": (2,)}, "1 more"),
        ({"mlp.down_proj.weight": torch.int8}, "are no plain numbers .*down_proj.weight is I8"),
        ({"input_layernorm.weight": torch.bool}, "layernorm.weight is BOOL.*dequantise the model"),
        ({"mlp.up_proj.weight": torch.complex64}, "up_proj.weight is C64"),
    ],
)
def test_what_stands_among_the_weights_and_is_not_applied(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    """An adapter that was saved with its model, and numbers that are no weights as they are."""
    folder = save_tiny_model(tmp_path, "llama")
    tensors = load_file(folder / "model.safetensors")
    for name, change in changed.items():
        key = f"model.layers.1.{name}"
        if change is None:
            del tensors[key]
        elif isinstance(change, torch.dtype):
            tensors[key] = tensors[key].to(change)
        else:
            tensors[key] = torch.ones(change)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    source = resolve_model(str(folder))
    with pytest.raises(NeurariumError, match=words):
        load_causal_lm(source, load_config(source), dtype=torch.float32)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
def test_a_complete_checkpoint_leaves_nothing_over(tmp_path: Path, architecture: str) -> None:
    """No warning for an ordinary model."""
    folder = save_tiny_model(tmp_path, architecture)
    assert load_model(resolve_model(str(folder))).unused_weights == ()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("num_key_value_heads", 1.5, "says num_key_value_heads is 1.5, which is another kind"),
        ("pad_token_id", "abc", "says pad_token_id is 'abc', which"),
        ("attention_dropout", ["x" * 99] * 9, "says attention_dropout is .{30}…, which"),
        ("head_dim", 10**300, r"says head_dim is 1[,0]{29}…, and"),
    ],
)
def test_a_wrong_value_in_the_configuration_is_named(
    tmp_path: Path, name: str, value: Any, words: str
) -> None:
    """In one line, whatever its length."""
    folder = save_tiny_model(tmp_path, "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {name: value}))
    with pytest.raises(NeurariumError, match=f"^The config.json of .*{words}") as caught:
        load_model(resolve_model(str(folder)))
    assert "\n" not in str(caught.value)


def test_a_shape_that_does_not_fit_is_named(tmp_path: Path) -> None:
    """The message has both shapes, and sends nobody to a report that is not shown."""
    folder = save_tiny_model(tmp_path, "llama")
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] = 300
    (folder / "config.json").write_text(json.dumps(config))
    source = resolve_model(str(folder))
    with pytest.raises(NeurariumError, match=r"320 × 32 in the checkpoint and 300 × 32") as caught:
        load_causal_lm(source, load_config(source), dtype=None)
    assert "above" not in str(caught.value)
