"""Attention patterns beside the model's own fast attention: the output stays the fast one's, to the
bit, so that a model read for its heads computes what it computes for any other unit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from indexer.errors import NeurariumError
from indexer.models.layout import Layout

FAST, SLOW = "sdpa", "eager"
WITH_PATTERNS = "sdpa_with_patterns"
"""The name under which transformers knows our function."""


def ways(root: nn.Module, attentions: Sequence[nn.Module]) -> tuple[str | None, ...]:
    """The ways to compute attention in which a model may return its patterns, best first; None: as
    it is (TransformerLens's own models, and models that always compute step by step)."""
    if not hasattr(root, "set_attn_implementation"):
        return (None,)
    if implementation(root) == SLOW:
        return (None,)
    known = all(_eager_of(attention) is not None for attention in attentions)
    fast = implementation(root) in (FAST, WITH_PATTERNS) and known
    return (WITH_PATTERNS, SLOW) if fast else (SLOW,)


def implementation(root: nn.Module) -> str | None:
    """How a transformers model computes attention."""
    way: str | None = getattr(getattr(root, "config", None), "_attn_implementation", None)
    return way


def use(root: Any, way: str | None) -> None:
    """Let a model compute attention in one of `ways`."""
    if way is None:
        return
    if way == WITH_PATTERNS:
        AttentionInterface.register(WITH_PATTERNS, attention_with_pattern)
        AttentionMaskInterface.register(WITH_PATTERNS, sdpa_mask)
    root.set_attn_implementation(way)


def attention_with_pattern(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **settings: Any,
) -> tuple[Tensor, Tensor]:
    """The output of `sdpa`, and the pattern [batch, head, query, key] of the model's own
    step-by-step function. `query`, `key` and `value` are [batch, head, pos, d_head]."""
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    eager = _eager_of(module)
    assert eager is not None  # `ways` has checked it
    mask = _added(attention_mask, query, key)
    # The pattern does not depend on the values, so a single column of them is enough.
    return output, eager(module, query, key, value[..., :1], mask, **settings)[1]


def _added(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor:
    """The mask as numbers that are added to scores: 0, or the dtype's lowest number for masked
    keys. No mask means causal attention."""
    if mask is None:
        shape = (query.shape[2], key.shape[2])
        mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril()[None, None]
    if mask.dtype != torch.bool:
        return mask
    least = torch.finfo(query.dtype).min
    return torch.zeros(mask.shape, dtype=query.dtype, device=mask.device).masked_fill(~mask, least)


def _eager_of(attention: nn.Module) -> Callable[..., tuple[Tensor, Tensor]] | None:
    """The step-by-step function of the file that a module's class is in."""
    file = sys.modules.get(type(attention).__module__)
    forward: Callable[..., tuple[Tensor, Tensor]] | None
    forward = getattr(file, "eager_attention_forward", None)
    return forward


def pattern_of(output: Any, shape: tuple[int, ...], layout: Layout) -> Tensor:
    """The pattern [batch, head, query, key] among what an attention module returns.

    Raises NeurariumError.
    """
    batch, pos = shape
    for part in output if isinstance(output, tuple) else ():
        if isinstance(part, Tensor) and part.ndim == 4 and part.shape[::2] == (batch, pos):
            return part
    raise NeurariumError(
        f"The attention of {layout.label!r} ({layout.architecture}) does not return its pattern: "
        "this architecture's heads cannot be indexed yet."
    )
