"""Any hook point: what is captured on the plain model is what TransformerLens's bridge caches."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

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
from indexer.models.names import HOOK_POINTS
from indexer.models.source import resolve_model
from tests.helpers.tiny_models import LAYERS, save_tiny_model, some_tokens

ARCHITECTURES = (
    *("llama", "gpt2", "gpt_neox", "gemma2", "gemma3", "qwen3", "opt", "bloom", "phi3", "gpt_neo"),
)
TOKENS = some_tokens(2, 7)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where a tiny model of an architecture is saved; each is made once."""

    @cache
    def folder(architecture: str) -> Path:
        return save_tiny_model(tmp_path_factory.mktemp(architecture), architecture)

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
