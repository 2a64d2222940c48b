"""TransformerLens's own models, the SoLU ones above all, against formulas and their bridges."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from torch import Tensor
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

import neurarium
from indexer.config import IndexConfig
from indexer.errors import NeurariumError
from indexer.models.asked import Asked
from indexer.models.heads import HEADS
from indexer.models.hook_places import mlp_points_of
from indexer.models.load import describe, load_model, load_native
from indexer.models.loaded import LoadedModel
from indexer.models.pretrained import LoadedTokenizer, load_tokenizer, pin_revision
from indexer.models.source import ModelSource, resolve_model
from indexer.run.index import index
from tests.conftest import Silent
from tests.helpers.tiny_heads import captured_heads
from tests.helpers.tiny_models import (
    TEXT,
    VOCAB,
    add_to_hub_cache,
    captured,
    point_hub_cache,
    shake,
    some_tokens,
    tiny_tokenizer,
)

NATIVE = ModelSource("legacy", "NeelNanda/tiny", None, "tiny", "tiny", None)


def native_config(**changes: Any) -> TransformerBridgeConfig:
    """The configuration of a tiny native model, SoLU with LayerNorm unless changed."""
    settings: dict[str, Any] = {
        "d_model": 16,
        "d_head": 8,
        "n_heads": 2,
        "n_layers": 2,
        "n_ctx": 32,
        "d_mlp": 24,
        "d_vocab": VOCAB,
        "act_fn": "solu_ln",
        "normalization_type": "LN",
        "architecture": "TransformerLensNative",
        "seed": 0,
    }
    return TransformerBridgeConfig(**(settings | changes))


def native_model(hook_point: str | None = None, **changes: Any) -> tuple[Any, LoadedModel]:
    """A bridge with random weights, and the same model loaded."""
    bridge = TransformerBridge.boot_native(native_config(**changes))
    shake(bridge.original_model)
    tokens = LoadedTokenizer(tiny_tokenizer(), 1, 0, "tiny")
    return bridge, load_native(bridge, NATIVE, tokens, asked=Asked(hook_point))


def by_hand(state: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """The first layer's neurons after SoLU and before its LayerNorm, from the formulas."""

    def layer_norm(x: Tensor, name: str) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    n = tokens.shape[0]
    x = state["tok_embed.weight"][tokens] + state["pos.weight"][:n]
    normed = layer_norm(x, "layers.0.ln1")
    q, k, v = (linear(normed, f"layers.0.attn.{name}").view(n, 2, 8) for name in "qkv")
    scores = torch.einsum("qhd,khd->hqk", q, k) / 8**0.5
    scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf).softmax(-1)
    x = x + linear(torch.einsum("hqk,khd->qhd", scores, v).reshape(n, 16), "layers.0.attn.o")
    pre = linear(layer_norm(x, "layers.0.ln2"), "layers.0.mlp.fc_in")
    return pre * pre.softmax(-1)


def plain_state(bridge: Any) -> dict[str, Tensor]:
    """The native model's parameters under its own names, wrappers left out."""
    parameters = bridge.original_model.named_parameters()
    return {name.replace("_original_component.", ""): value for name, value in parameters}


def test_solu_is_captured_before_its_layer_norm() -> None:
    """By default a SoLU model is captured where Neuroscope captured it, by a hand computation."""
    bridge, model = native_model()
    tokens = some_tokens(2, 9)
    assert model.units.hook_point == "mlp.ln.hook_in"
    assert mlp_points_of(model.layout) == ("mlp.hook_pre", "mlp.ln.hook_in", "mlp.hook_post")
    first = captured(model, tokens)[0]
    state = plain_state(bridge)
    for row in (0, 1):
        torch.testing.assert_close(first[row], by_hand(state, tokens[row]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("hook_point", "changes"),
    [
        ("mlp.ln.hook_in", {}),
        ("mlp.hook_pre", {}),
        ("mlp.hook_post", {}),
        ("mlp.hook_post", {"act_fn": "gelu"}),
        ("mlp.hook_pre", {"act_fn": "silu", "gated_mlp": True, "normalization_type": "RMS"}),
    ],
)
def test_a_native_model_gives_what_its_bridge_caches(
    hook_point: str, changes: dict[str, Any]
) -> None:
    """Captured without its unembedding, a native model equals its bridge's own cache."""
    bridge, model = native_model(hook_point, **changes)
    tokens = some_tokens(1, 8)
    acts = captured(model, tokens)
    _, cache = bridge.run_with_cache(tokens)
    for layer, values in enumerate(acts):
        torch.testing.assert_close(values, cache[f"blocks.{layer}.{hook_point}"])


def test_a_native_model_stops_before_its_unembedding() -> None:
    """The unembedding, often the largest matrix, is not run."""
    bridge, model = native_model()
    calls: list[int] = []
    bridge.original_model.head.register_forward_hook(lambda *_: calls.append(1))
    captured(model, some_tokens(1, 4))
    assert not calls


def test_padding_changes_nothing_in_a_native_model() -> None:
    """A padded context of a native model has the activations it has alone."""
    _, model = native_model()
    tokens = some_tokens(2, 10)
    mask = torch.ones_like(tokens)
    mask[0, 6:] = 0
    for padded, plain in zip(
        captured(model, tokens * mask, mask), captured(model, tokens[:1, :6]), strict=True
    ):
        torch.testing.assert_close(padded[0, :6], plain[0], rtol=1e-4, atol=1e-6)


def test_an_attention_only_model_is_refused() -> None:
    """A model without MLPs has no neurons, and is told apart from an unknown one."""
    with pytest.raises(NeurariumError, match="has no MLP neurons, it is attention-only"):
        native_model(attn_only=True)


COMMIT = "c" * 40
TOY, ATTENTION_ONLY = "NeelNanda/SoLU_1L512W_C4_Code", "NeelNanda/Attn_Only_1L512W_C4_Code"


@pytest.fixture
def legacy_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's edge: a cache with two repositories in the old format, with one checkpoint, and
    their tokenizer; the answers of the hub's API stand in for the network. Returns the cache."""
    cache, files = tmp_path / "hub", tmp_path / "files"
    files.mkdir()
    cfg = native_config()

    def save_weights(*, attention_only: bool) -> None:
        for name, seed in (("model_final.pth", 0), ("checkpoints/model_1000.pth", 1)):
            (files / name).parent.mkdir(exist_ok=True)
            generator = torch.Generator().manual_seed(seed)
            torch.save(
                {
                    key: torch.randn(shape, generator=generator)
                    for key, shape in legacy_shapes(cfg).items()
                    if not (attention_only and (".mlp." in key or ".ln2." in key))
                },
                files / name,
            )

    names = "d_model n_layers d_mlp d_head n_heads n_ctx d_vocab act_fn".split()
    facts = {name: getattr(cfg, name) for name in names}
    facts |= {"normalization": "LN", "tokenizer_name": "someone/tokenizer"}
    for repository in (TOY, ATTENTION_ONLY):
        facts["attn_only"] = repository == ATTENTION_ONLY
        save_weights(attention_only=repository == ATTENTION_ONLY)
        (files / "config.json").write_text(json.dumps(facts))
        add_to_hub_cache(cache, repository, COMMIT, files)
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    add_to_hub_cache(cache, "someone/tokenizer", COMMIT, tmp_path / "tokenizer")
    point_hub_cache(cache, "someone/tokenizer", "main", COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda *_, **__: SimpleNamespace(sha=COMMIT)
    )
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "list_repo_files",
        lambda *_: ["config.json", "model_final.pth", "checkpoints/model_1000.pth"],
    )
    return cache


def legacy_shapes(cfg: TransformerBridgeConfig) -> dict[str, tuple[int, ...]]:
    """The parameters of a checkpoint in the old format."""
    d, h, e, m = cfg.d_model, cfg.n_heads, cfg.d_head, int(cfg.d_mlp or 0)
    shapes: dict[str, tuple[int, ...]] = {
        "embed.W_E": (cfg.d_vocab, d),
        "pos_embed.W_pos": (cfg.n_ctx, d),
        "ln_final.w": (d,),
        "ln_final.b": (d,),
        "unembed.W_U": (d, cfg.d_vocab),
        "unembed.b_U": (cfg.d_vocab,),
    }
    for layer in range(cfg.n_layers):
        block = f"blocks.{layer}"
        for name in "QKV":
            shapes |= {f"{block}.attn.W_{name}": (h, d, e), f"{block}.attn.b_{name}": (h, e)}
        shapes |= {f"{block}.attn.W_O": (h, e, d), f"{block}.attn.b_O": (d,)}
        shapes |= {f"{block}.mlp.W_in": (d, m), f"{block}.mlp.b_in": (m,)}
        shapes |= {f"{block}.mlp.W_out": (m, d), f"{block}.mlp.b_out": (d,)}
        shapes |= {f"{block}.mlp.ln.w": (m,), f"{block}.mlp.ln.b": (m,)}
        for norm in ("ln1", "ln2"):
            shapes |= {f"{block}.{norm}.w": (d,), f"{block}.{norm}.b": (d,)}
    return shapes


@pytest.mark.usefixtures("legacy_hub")
def test_a_toy_model_is_loaded_from_its_old_repository() -> None:
    """solu-1l and its like: the configuration, the tokenizer and the weights of the old format."""
    source = resolve_model("solu-1l")
    assert describe(source).layout.max_context == 32
    assert load_tokenizer(source).bos_token_id == 1
    model = load_model(source)
    assert (model.units.hook_point, model.units.widths) == ("mlp.ln.hook_in", (24, 24))
    assert model.layout.activation_function == "solu_ln"
    again = load_model(source, dtype="bfloat16")
    assert again.weights_hash == model.weights_hash
    assert again.dtype is torch.bfloat16


@pytest.mark.usefixtures("legacy_hub")
def test_a_toy_model_in_memory_gives_the_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bridge that `boot_tl_legacy` made gives the content hash of the model by its name."""
    monkeypatch.setenv("NEURARIUM_CACHE_DIR", str(tmp_path / "cache"))
    database = f"sqlite:///{tmp_path / 'store.db'}"
    texts = [{"text": f"{TEXT}{number}", "source": "a"} for number in range(12)]
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(map(json.dumps, texts)))
    options: dict[str, Any] = {"ctx_len": 16, "sample": 8, "top_k": 5}
    config = IndexConfig(model="solu-1l", corpus=str(corpus), name="named", **options)
    index(config, database, tmp_path / "cache", Silent())
    given, tokenizer = (load_tokenizer(resolve_model("solu-1l")).tokenizer for _ in "ab")
    bridge = TransformerBridge.boot_tl_legacy(TOY, device="cpu", tokenizer=given)
    run = neurarium.index(
        bridge, tokenizer, texts, name="given", database=database, progress=False, **options
    )
    named = neurarium.open(database).model("named").run
    assert run.run.content_hash == named.content_hash


@pytest.mark.usefixtures("legacy_hub")
def test_a_toy_model_has_its_own_checkpoints() -> None:
    """A checkpoint's number picks its weights, the commit is told beside it; a number that is not
    there is refused."""
    final = load_model(resolve_model("solu-1l"))
    early = load_model(resolve_model("solu-1l", "1000"))
    assert (final.source.commit, final.source.checkpoint) == (COMMIT, None)
    assert (early.source.commit, early.source.checkpoint) == (COMMIT, "1000")
    assert early.weights_hash != final.weights_hash
    assert (early.source.model_id, early.tokens.name) == (TOY, "someone/tokenizer")
    with pytest.raises(NeurariumError, match="checkpoint_value=7 not in available checkpoints"):
        load_model(resolve_model("solu-1l", "7"))


def test_a_toy_model_that_changes_under_the_load_is_refused(
    legacy_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TransformerLens reads the main branch: if that moved since it was resolved, nothing is told
    to be of a commit it is not of."""
    source = pin_revision(resolve_model("solu-1l"))
    assert source.commit == COMMIT
    boot = TransformerBridge.boot_tl_legacy

    def boot_after_a_push(*args: Any, **rest: Any) -> Any:
        home = legacy_hub / f"models--{TOY.replace('/', '--')}"
        (home / "snapshots" / COMMIT).rename(home / "snapshots" / ("d" * 40))
        point_hub_cache(legacy_hub, TOY, "main", "d" * 40)
        return boot(*args, **rest)

    monkeypatch.setattr(TransformerBridge, "boot_tl_legacy", boot_after_a_push)
    with pytest.raises(NeurariumError, match=r"'solu-1l' changed on the hub while.*again"):
        load_model(source)


@pytest.mark.usefixtures("legacy_hub")
def test_a_toy_model_needs_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """TransformerLens asks for the list of files at every load: without network, that is told."""

    def unreachable(*_: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", unreachable)
    with pytest.raises(NeurariumError, match=r"ConnectionError: no route.*'solu-1l'.*every load"):
        load_model(resolve_model("solu-1l"))


@pytest.mark.usefixtures("legacy_hub")
def test_an_attention_only_toy_model_is_refused() -> None:
    """An attention-only repository is refused before its weights are fetched, with a hint to its
    heads."""
    for name in (ATTENTION_ONLY, "attn-only-1l"):
        with pytest.raises(NeurariumError, match=r"it is attention-only.*attention heads.*--heads"):
            load_model(resolve_model(name))


def test_an_attention_only_toy_model_is_loaded_for_its_heads(legacy_hub: Path) -> None:
    """attn-only-1l and its like: the patterns are those of the old format's weights."""
    model = load_model(resolve_model("attn-only-1l"), asked=HEADS)
    assert (model.source.model_id, model.source.url_name) == (ATTENTION_ONLY, "attn-only-1l")
    assert model.units.widths == (2, 2)
    home = legacy_hub / f"models--{ATTENTION_ONLY.replace('/', '--')}"
    weights = torch.load(home / "snapshots" / COMMIT / "model_final.pth")
    tokens = some_tokens(1, 9)
    x = weights["embed.W_E"][tokens[0]] + weights["pos_embed.W_pos"][:9]
    x = torch.nn.functional.layer_norm(
        x, x.shape[-1:], weights["blocks.0.ln1.w"], weights["blocks.0.ln1.b"]
    )
    q, k = (
        torch.einsum("pm,hmd->hpd", x, weights[f"blocks.0.attn.W_{name}"])
        + weights[f"blocks.0.attn.b_{name}"][:, None]
        for name in "QK"
    )
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(
        torch.ones(9, 9).triu(1).bool(), -torch.inf
    )
    found = captured_heads(model, tokens)[0].pattern[0]
    torch.testing.assert_close(found, scores.softmax(-1), rtol=1e-3, atol=1e-5)


def test_a_toy_model_that_transformer_lens_cannot_take_is_refused(legacy_hub: Path) -> None:
    """A repository with shortformer positions gets TransformerLens's reason, in one line."""
    home = legacy_hub / f"models--{TOY.replace('/', '--')}"
    config = (home / "snapshots" / COMMIT / "config.json").resolve()
    config.write_text(json.dumps(json.loads(config.read_text()) | {"shortformer_pos": True}))
    with pytest.raises(NeurariumError, match=r"cannot be loaded: .* shortformer positional"):
        describe(resolve_model("solu-1l"))
