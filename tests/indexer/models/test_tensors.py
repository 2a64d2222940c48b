"""Any hook point: what is captured on the plain model is what TransformerLens's bridge caches."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from indexer.captured import Captured
from indexer.errors import NeurariumError
from indexer.models.asked import Asked
from indexer.models.load import describe, load_model
from indexer.models.loaded import LoadedModel
from indexer.models.names import HOOK_POINTS, TENSOR_HOOK_POINTS, tensor_set_name
from indexer.models.source import resolve_model
from indexer.models.units import Reader, Unknown, Writes
from indexer.store.units import check_set_name
from tests.helpers.tiny_models import (
    LAYERS,
    WIDTH,
    save_tiny_model,
    some_tokens,
    tiny_tokenizer,
)

ARCHITECTURES = (
    *("llama", "gpt2", "gpt_neox", "gemma2", "gemma3", "qwen3", "opt", "bloom", "phi3", "gpt_neo"),
    "granite",
)
CHANGES = {"granite": {"embedding_multiplier": 12.0}}
"""Beside Granite's constant for what attention and MLP add, as its real models have it."""
TOKENS = some_tokens(2, 7)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where a tiny model of an architecture is saved; each is made once."""

    @cache
    def folder(architecture: str) -> Path:
        changes = CHANGES.get(architecture, {})
        return save_tiny_model(tmp_path_factory.mktemp(architecture), architecture, **changes)

    return folder


def captured(model: LoadedModel) -> list[Tensor]:
    """Every layer's units on the tokens."""
    layers: list[Tensor] = []

    def keep(_layer: int, seen: Captured) -> None:
        layers.append(seen.activations.clone())

    model.capture(TOKENS, torch.ones_like(TOKENS), keep)
    return layers


def bridge_cache(folder: Path) -> Any:
    """What TransformerLens's bridge caches of the model, on the tokens."""
    bridge = TransformerBridge.boot_transformers(
        str(folder),
        device="cpu",
        hf_model=transformers.AutoModelForCausalLM.from_pretrained(folder),
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
    )
    return bridge.run_with_cache(TOKENS)[1]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_hook_point_is_transformer_lens_own(
    folder_of: Callable[[str], Path], architecture: str
) -> None:
    """A hook point is captured if and only if the bridge has it, with the bridge's own numbers."""
    folder = folder_of(architecture)
    cached = bridge_cache(folder)
    source = resolve_model(str(folder))
    description = describe(source)
    for hook_point in HOOK_POINTS:
        name = hook_point if hook_point == "hook_embed" else f"blocks.{{}}.{hook_point}"
        if name.format(0) not in cached:
            with pytest.raises(NeurariumError, match="has no hook point"):
                load_model(source, asked=Asked(hook_point), description=description)
            continue
        model = load_model(source, asked=Asked(hook_point), description=description)
        layers = captured(model)
        assert len(layers) == len(model.units.widths) == (1 if name == hook_point else LAYERS)
        for layer, acts in enumerate(layers):
            truth = cached[name.format(layer)]
            torch.testing.assert_close(acts, truth.flatten(2), rtol=1e-4, atol=1e-5)
            assert acts.shape[-1] == model.units.widths[layer]


def test_modules_that_answer_with_a_list(folder_of: Callable[[str], Path]) -> None:
    """GPT-1's attention and blocks do; the bridge has no residual stream after a block there."""
    folder = folder_of("openai-gpt")
    source = resolve_model(str(folder))
    cached = bridge_cache(folder)
    for hook_point in ("hook_attn_out", "hook_resid_pre", "hook_mlp_out"):
        for layer, acts in enumerate(captured(load_model(source, asked=Asked(hook_point)))):
            truth = cached[f"blocks.{layer}.{hook_point}"]
            torch.testing.assert_close(acts, truth.flatten(2), rtol=1e-4, atol=1e-5)
    after = captured(load_model(source, asked=Asked("hook_resid_post")))[0]
    torch.testing.assert_close(after, cached["blocks.1.hook_resid_pre"], rtol=1e-4, atol=1e-5)


def test_a_dimension_of_the_residual_stream_writes_itself(
    folder_of: Callable[[str], Path],
) -> None:
    """It reads nothing, and set to a value it has that value."""
    model = load_model(resolve_model(str(folder_of("llama"))), asked=Asked("hook_resid_post"))
    units = model.units
    writes = units.writes(1)
    assert isinstance(writes, Writes)
    assert torch.equal(writes.vectors, torch.eye(WIDTH))
    assert all(isinstance(reader, Unknown) for reader in units.readers(TOKENS[:1]))
    assert (units.name, units.noun, units.described.blocks) == ("resid_post", "dimension", 1)
    values = torch.zeros(2, 3, WIDTH)
    units.set_unit(0, values, 5, 2.0)
    assert values.sum() == 12
    assert units.dead(np.float32([0, 1e-3]), np.float32([-1, 0])).tolist() == [False, False]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_a_heads_output_writes_through_w_o(
    folder_of: Callable[[str], Path], architecture: str
) -> None:
    """Raising one dimension of z by 1 moves what attention writes by its vector, as far as the norm
    after attention (Gemma 2), whose scale is left out, lets it."""
    source = resolve_model(str(folder_of(architecture)))
    model = load_model(source, asked=Asked("attn.hook_z"))
    writes = model.units.writes(0)
    assert isinstance(writes, Writes)
    assert model.units.described.group == 8
    assert model.units.described.name(13) == "1.5"
    projection = writes.source.module
    given = torch.zeros(2, 1, model.units.widths[0])
    given[1, 0, 13] = 1
    with torch.inference_mode():
        moved = (projection(given)[1] - projection(given)[0])[0]
    if architecture == "gemma2":
        norm = model.layout.attention_norm(model.root, 0)
        assert isinstance(norm, torch.nn.Module)
        moved = moved * (1 + norm.weight.detach())
    torch.testing.assert_close(writes.vectors[13], moved, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "bloom"])
def test_queries_read_through_the_norm(folder_of: Callable[[str], Path], architecture: str) -> None:
    """What is read of the block's input gives the captured queries, up to their bias; a fused
    projection gives its own part."""
    source = resolve_model(str(folder_of(architecture)))
    streams = captured(load_model(source, asked=Asked("hook_resid_pre")))
    for hook_point in ("attn.hook_q", "attn.hook_v"):
        model = load_model(source, asked=Asked(hook_point))
        readers = model.units.readers(TOKENS[:1])
        for layer, (acts, stream) in enumerate(zip(captured(model), streams, strict=True)):
            reader = readers[layer]
            assert isinstance(reader, Reader)
            read = reader.normed(stream.flatten(0, 1)) @ reader.matrices["in"].float()
            constant = acts.flatten(0, 1) - read
            torch.testing.assert_close(
                constant, constant[:1].expand_as(constant), rtol=1e-3, atol=1e-4
            )
        assert isinstance(model.units.writes(0), Unknown)


def test_a_mixture_of_experts_has_other_hook_points(tmp_path: Path) -> None:
    """A mixture of experts has no MLP neurons, but a residual stream and attention."""
    config = transformers.MixtralConfig(
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        vocab_size=320,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.MixtralForCausalLM(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    source = resolve_model(str(tmp_path))
    cached = bridge_cache(tmp_path)
    for hook_point in ("hook_resid_post", "hook_mlp_out", "attn.hook_z", "attn.hook_k"):
        for layer, acts in enumerate(captured(load_model(source, asked=Asked(hook_point)))):
            truth = cached[f"blocks.{layer}.{hook_point}"]
            torch.testing.assert_close(acts, truth.flatten(2), rtol=1e-4, atol=1e-5)
    for asked in (None, "mlp.hook_post"):
        with pytest.raises(NeurariumError, match="mixture-of-experts model"):
            load_model(source, asked=Asked(asked))


def test_names_of_sets() -> None:
    """Every tensor's set has a name that addresses can hold."""
    names = [tensor_set_name(hook_point) for hook_point in TENSOR_HOOK_POINTS]
    assert len(set(names)) == len(names)
    for name in names:
        check_set_name(name)
    for wrong in ("search", "neurons", "heads", "3", "l3", "layer2", "Resid", "a/b", "", "x" * 41):
        with pytest.raises(NeurariumError, match="set name"):
            check_set_name(wrong)
