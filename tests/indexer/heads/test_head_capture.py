"""Patterns, values, outputs and direct effects of heads, against independent eager models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from indexer.errors import NeurariumError
from indexer.heads.decompose import decompose
from indexer.heads.effects import EffectPass, heads_of, logit_path, next_tokens
from indexer.models.load import load_native
from indexer.models.loaded import LoadedModel
from tests.helpers.tiny_heads import (
    ARCHITECTURES,
    NATIVE,
    attention_only,
    captured_heads,
    eager,
    shared_heads,
    tiny_heads,
)
from tests.helpers.tiny_models import some_tokens

EXACT = 6
"""Keys whose values can be solved for: rounding grows with each."""


@pytest.fixture(params=ARCHITECTURES)
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, LoadedModel]:
    """A tiny model's folder, and the model; each is made once."""
    return shared_heads(request.param, tmp_path_factory.getbasetemp())


def test_heads_equal_an_eager_model(saved: tuple[Path, LoadedModel]) -> None:
    """Patterns and outputs are the eager model's; values solve outputs = pattern · values."""
    folder, model = saved
    tokens = some_tokens(2, 13)
    expected = eager(folder, model, tokens)
    for layer, found in enumerate(captured_heads(model, tokens)):
        pattern = expected.patterns[layer]
        torch.testing.assert_close(found.pattern, pattern, rtol=1e-4, atol=1e-6)
        outputs = expected.outputs[layer].unflatten(-1, (pattern.shape[1], -1))
        torch.testing.assert_close(found.outputs, outputs, rtol=1e-4, atol=1e-5)
        written = expected.values(layer, EXACT) @ heads_of(model).weights(layer).out.double()
        norms = found.value_norms[..., :EXACT]
        torch.testing.assert_close(norms, written.norm(dim=-1).float(), rtol=5e-3, atol=1e-4)


def test_heads_and_all_else_sum_to_the_logit(saved: tuple[Path, LoadedModel]) -> None:
    """Embedding, heads, MLPs and biases add up to the model's own logit."""
    _, model = saved
    tokens, targets = some_tokens(2, 14)
    parts = decompose(model, tokens, targets)
    assert parts is not None
    assert float(parts.remainder.abs().max()) <= 1e-4 * max(1.0, float(parts.logit.abs().max()))
    assert float(parts.heads.abs().amax((0, 1)).min()) > 1e-3
    assert float(parts.mlps.abs().amax(0).min()) > 1e-3


def test_effects_in_the_scan_are_the_parts_of_the_logit(saved: tuple[Path, LoadedModel]) -> None:
    """The pass over a batch gives each head the same effect on the true next token."""
    _, model = saved
    tokens = some_tokens(2, 14)
    path = logit_path(model)
    assert path is not None
    effects = EffectPass(heads_of(model), path, next_tokens(tokens))
    heads_of(model).capture_heads(
        tokens, torch.ones_like(tokens), effects.on_heads, effects.hooks()
    )
    for row in range(2):
        parts = decompose(model, tokens[row], next_tokens(tokens)[row])
        assert parts is not None
        for layer in range(model.layout.n_layers):
            torch.testing.assert_close(
                effects.effects(layer)[row], parts.heads[:, layer], rtol=1e-3, atol=1e-5
            )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"positional_embedding_type": "rotary", "normalization_type": "RMS"},
        {"n_heads": 4, "n_key_value_heads": 2},
        {"normalization_type": None},
        {"attn_only": False, "act_fn": "solu_ln"},
    ],
)
def test_a_native_model_gives_what_its_bridge_caches(changes: dict[str, object]) -> None:
    """Patterns and outputs equal the bridge's cache; its logits are the sum of the parts."""
    bridge, model = attention_only(**changes)
    tokens = some_tokens(1, 9)
    found = captured_heads(model, tokens)
    logits, cache = bridge.run_with_cache(tokens)
    for layer, heads in enumerate(found):
        torch.testing.assert_close(heads.pattern, cache[f"blocks.{layer}.attn.hook_pattern"])
        torch.testing.assert_close(
            heads.outputs.reshape(1, 9, -1), cache[f"blocks.{layer}.attn.hook_z"].reshape(1, 9, -1)
        )
    targets = next_tokens(tokens)[0]
    parts = decompose(model, tokens[0], targets)
    assert parts is not None
    torch.testing.assert_close(parts.logit, logits[0].gather(1, targets[:, None])[:, 0])
    assert float(parts.remainder.abs().max()) <= 1e-4


def test_a_heads_effect_by_hand() -> None:
    """The effect of one head is its output through W_O, the centred LayerNorm and W_U."""
    bridge, model = attention_only()
    tokens = some_tokens(1, 9)
    target = next_tokens(tokens)[0]
    parts = decompose(model, tokens[0], target)
    assert parts is not None
    _, cache = bridge.run_with_cache(tokens)
    native = bridge.original_model
    stream = cache["blocks.1.hook_resid_post"][0]
    centred = stream - stream.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1) + 1e-5).sqrt()
    final = next(m for name, m in native.named_modules() if name.endswith("ln_out"))
    weight = dict(final.named_parameters())
    gain = next(value for name, value in weight.items() if name.endswith("weight"))
    unembed = next(v for name, v in native.named_parameters() if name.startswith("head"))
    for layer in (0, 1):
        w_out = next(
            value
            for name, value in native.named_parameters()
            if name.replace("_original_component.", "") == f"layers.{layer}.attn.o.weight"
        )
        z = cache[f"blocks.{layer}.attn.hook_z"].reshape(9, 3, 8)
        for head in range(3):
            added = z[:, head] @ w_out[:, 8 * head : 8 * head + 8].T
            normed = (added - added.mean(-1, keepdim=True)) * gain / scale[:, None]
            by_hand = (normed * unembed[target]).sum(-1)
            torch.testing.assert_close(
                parts.heads[:, layer, head], by_hand.detach(), rtol=1e-3, atol=1e-5
            )


def test_padding_changes_nothing(tmp_path: Path) -> None:
    """A padded context has the pattern and outputs it has alone."""
    model = tiny_heads(tmp_path / "llama", "llama")
    tokens = some_tokens(2, 10)
    mask = torch.ones_like(tokens)
    mask[0, 6:] = 0
    together = captured_heads(model, tokens * mask, mask)
    single = captured_heads(model, tokens[:1, :6])
    for padded, alone in zip(together, single, strict=True):
        torch.testing.assert_close(
            padded.pattern[:1, :, :6, :6], alone.pattern, rtol=1e-4, atol=1e-6
        )
        torch.testing.assert_close(padded.outputs[:1, :6], alone.outputs, rtol=1e-4, atol=1e-5)


def test_setting_a_head_scales_its_output(tmp_path: Path) -> None:
    """0 silences one head alone; another length is the length it then has."""
    model = tiny_heads(tmp_path / "gpt2", "gpt2")
    heads = heads_of(model)
    outputs = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    before = heads.captured(0, outputs, ()).activations
    heads.set_unit(0, outputs, 1, 2.0)
    heads.set_unit(0, outputs, 2, 0.0)
    after = heads.captured(0, outputs, ()).activations
    torch.testing.assert_close(after[:, 1], torch.full((5,), 2.0))
    assert torch.equal(after[:, 2], torch.zeros(5))
    torch.testing.assert_close(after[:, [0, 3]], before[:, [0, 3]])


def test_an_attention_only_model_needs_its_heads_asked_for() -> None:
    """Without a hook point of heads it is refused, with it it is loaded."""
    bridge, model = attention_only()
    assert model.units.noun == "head"
    assert model.units.widths == (3, 3)
    with pytest.raises(NeurariumError, match="attention-only"):
        load_native(bridge, NATIVE, model.tokens)
