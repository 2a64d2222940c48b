"""Tiny models loaded for their attention heads, and what independent eager models make of the same
tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from indexer.captured import CapturedHeads
from indexer.config import IndexConfig
from indexer.heads.effects import heads_of
from indexer.models.heads import HEADS
from indexer.models.load import load_model, load_native
from indexer.models.loaded import LoadedModel
from indexer.models.pretrained import LoadedTokenizer
from indexer.models.source import ModelSource, resolve_model
from tests.helpers.tiny_models import VOCAB, save_tiny_model, shake, tiny_tokenizer

ARCHITECTURES = (
    "gpt2",  # fused side by side, learned positions
    "gpt_neox",  # fused by group, partial RoPE, parallel
    "gpt_neo",  # a layer of local attention
    "opt",
    "llama",  # grouped keys, RoPE
    "qwen3",  # norms on queries and keys
    "gemma2",  # sliding windows, soft caps, norms after
    "olmo2",  # norms after only
    "granite",  # a residual multiplier, a scale of logits
    "cohere",  # parallel, LayerNorm without bias
    "phi3",  # grouped keys, fused side by side
    "bloom",  # ALiBi, fused by group, residual added inside
    "gpt_oss",  # sinks: rows do not sum to 1; sliding windows; a mixture of experts
)
_CHANGES: dict[str, dict[str, Any]] = {
    # Granite's own default leaves scores unscaled, so that patterns are all but one-hot.
    "granite": {"attention_multiplier": 0.35},
    "phi": {"qk_layernorm": True},
}
SMALL_RUN = IndexConfig(model="demo", heads=True, max_tokens=4_000, sample=16, top_k=3, bottom_k=2)
"""A small run of the bundled model's heads."""
NATIVE = ModelSource("legacy", "NeelNanda/tiny", None, "tiny", "tiny", None)


def tiny_heads(folder: Path, architecture: str) -> LoadedModel:
    """A tiny Hugging Face model, saved to `folder` and loaded for its heads."""
    path = save_tiny_model(folder, architecture, **_CHANGES.get(architecture, {}))
    return load_model(resolve_model(str(path)), asked=HEADS)


@cache
def shared_heads(architecture: str, base: Path) -> tuple[Path, LoadedModel]:
    """The folder and the model of `tiny_heads`, made once below `base` for all tests of a process,
    which leave it as it is."""
    folder = base / "tiny-heads" / architecture
    return folder, tiny_heads(folder, architecture)


def attention_only(**changes: Any) -> tuple[Any, LoadedModel]:
    """The bridge of a tiny attention-only native model, and the same model loaded for its heads."""
    settings: dict[str, Any] = {
        "d_model": 16,
        "d_head": 8,
        "n_heads": 3,
        "n_layers": 2,
        "n_ctx": 64,
        "d_vocab": VOCAB,
        "act_fn": "gelu",
        "attn_only": True,
        "normalization_type": "LN",
        "architecture": "TransformerLensNative",
        "seed": 0,
    }
    bridge = TransformerBridge.boot_native(TransformerBridgeConfig(**(settings | changes)))
    shake(bridge.original_model)
    tokens = LoadedTokenizer(tiny_tokenizer(), 1, 0, "tiny")
    return bridge, load_native(bridge, NATIVE, tokens, asked=HEADS)


def captured_heads(
    model: LoadedModel, tokens: Tensor, mask: Tensor | None = None
) -> list[CapturedHeads]:
    """Every layer's heads on a batch."""
    found: list[CapturedHeads] = []
    heads = heads_of(model)
    attention = torch.ones_like(tokens) if mask is None else mask
    heads.capture_heads(tokens, attention, lambda _, captured: found.append(captured))
    return found


@dataclass(frozen=True)
class Eager:
    """What an independent model makes of tokens, in float64."""

    patterns: tuple[Tensor, ...]
    outputs: list[Tensor]
    """Inputs of the output projections [batch, pos, n]."""

    def values(self, layer: int, keys: int) -> Tensor:
        """The values of the first keys [batch, head, key, d_head], by solving outputs = pattern ·
        values: patterns are triangular."""
        pattern = self.patterns[layer][:, :, :keys, :keys].double()
        outputs = self.outputs[layer][:, :keys].double()
        outputs = outputs.reshape(*outputs.shape[:2], pattern.shape[1], -1)
        values: Tensor = torch.linalg.solve_triangular(
            pattern, outputs.transpose(1, 2), upper=False
        )
        return values


@torch.no_grad()
def eager(folder: Path, model: LoadedModel, tokens: Tensor) -> Eager:
    """The patterns and heads' outputs of the saved model, loaded by transformers alone."""
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    outputs: list[Tensor] = []
    for layer in range(model.layout.n_layers):
        out = model.layout.component(plain, f"blocks.{layer}.attn.o")
        assert out is not None
        out.register_forward_pre_hook(lambda _, args: outputs.append(args[0].clone()))
    result = plain.eval()(input_ids=tokens, output_attentions=True, use_cache=False)
    shape = (*tokens.shape, -1)
    return Eager(result.attentions, [output.reshape(shape) for output in outputs])
