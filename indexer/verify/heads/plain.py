"""A plain pass over one context: the patterns of eager attention, what every head moves and adds to
the logits of the next tokens, and the losses.

Unlike the scan: attention is the model's own step-by-step function, nothing is padded, norms are
lengths of whole vectors v_k W_O, and effects are whole output vectors sent through the norms.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor
from transformers import PreTrainedModel

from indexer.heads.effects import LogitPath, heads_of, logit_path
from indexer.models import patterns
from indexer.models.heads import AttentionHeads
from indexer.models.loaded import LoadedModel
from indexer.models.modules import first_tensor
from indexer.models.qkv import SPLITS, repeated

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PlainLayer:
    """One layer's heads on one context."""

    pattern: Float32[np.ndarray, "head query key"]
    norms: Float32[np.ndarray, "head key"]
    """‖v_k W_O‖."""
    effects: Float64[np.ndarray, "pos head"] | None
    """Direct effects on the logit of the next token; the last position's counts for nothing. None
    where the way to the logits is not known."""
    astray: float
    """The largest difference between attention × values and what enters the output projection,
    relative to the largest of the latter."""


@dataclass(frozen=True)
class PlainContext:
    """All heads on one context."""

    layers: list[PlainLayer]
    losses: Float64[np.ndarray, " pos-1"]
    """Of each next token, in nats."""


@contextlib.contextmanager
def eager(model: LoadedModel) -> Iterator[None]:
    """Let the model compute attention step by step."""
    usual = patterns.implementation(model.root)
    if usual != patterns.WITH_PATTERNS:
        yield
        return
    patterns.use(model.root, patterns.SLOW)
    try:
        yield
    finally:
        patterns.use(model.root, usual)


@torch.inference_mode()
def read_plainly(model: LoadedModel, token_ids: Sequence[int] | Array) -> PlainContext:
    """All heads on one context [pos], computed within `eager`."""
    heads, path = heads_of(model), logit_path(model)
    tokens = torch.as_tensor(np.asarray(token_ids, np.int64), device=model.device)[None]
    seen: dict[tuple[str, int], Tensor] = {}
    with _watched(model, heads, path, seen):
        result = _run(model, tokens)
    attentions = getattr(result, "attentions", None) or ()
    shape = (1, tokens.shape[1])
    layers = []
    for layer in range(len(heads.widths)):
        if len(attentions) == len(heads.widths):
            pattern = attentions[layer]
        else:  # TransformerLens's own models return logits alone
            pattern = seen["pattern", layer]
        layers.append(_layer(heads, path, layer, pattern[0].float(), seen, tokens[0], shape))
    logits = getattr(result, "logits", result)[0].float()
    log_p = logits[:-1].double().log_softmax(-1)
    losses = -log_p.gather(1, tokens[0, 1:, None])[:, 0]
    return PlainContext(layers, losses.cpu().numpy())


def _run(model: LoadedModel, tokens: Tensor) -> Any:
    mask = torch.ones_like(tokens)
    if isinstance(model.root, PreTrainedModel):
        return model.root(
            input_ids=tokens, attention_mask=mask, output_attentions=True, use_cache=False
        )
    return model.root(input_ids=tokens, attention_mask=mask)


def _layer(
    heads: AttentionHeads,
    path: LogitPath | None,
    layer: int,
    pattern: Float[Tensor, "head query key"],
    seen: dict[tuple[str, int], Tensor],
    tokens: Tensor,
    shape: tuple[int, int],
) -> PlainLayer:
    width, out = heads.widths[layer], heads.weights(layer).out
    d_head = out.shape[1]
    projected = seen["values", layer].reshape(*shape, -1)
    own = SPLITS[heads.projections[layer].split](projected, width, d_head)[2]
    values = repeated(own, width)[0].float()  # key, head, d_head
    outputs = seen["outputs", layer].reshape(shape[1], width, d_head).float()
    mixed = torch.einsum("hqk,khd->qhd", pattern, values)
    astray = (mixed - outputs).abs().max() / outputs.abs().max().clamp(min=1e-6)
    norms = torch.einsum("khd,hdm->hkm", values, out).norm(dim=-1)
    effects = None
    if path is not None:
        vectors = torch.einsum("qhd,hdm->qhm", outputs, out)
        norm = heads.norms[layer]
        if norm is not None:
            scale = norm.scale(seen["post", layer].reshape(shape[1], -1))
            vectors = norm.linear(vectors) / scale[:, None, None]
        vectors = vectors * heads.residual_multiplier
        if path.norm is not None:
            scale = path.norm.scale(seen["final", 0].reshape(shape[1], -1))
            vectors = path.norm.linear(vectors) / scale[:, None, None]
        rows = path.unembedding[torch.cat([tokens[1:], tokens[-1:]])].double() * path.logit_scale
        effects = torch.einsum("qhm,qm->qh", vectors.double(), rows).cpu().numpy()
    return PlainLayer(pattern.cpu().numpy(), norms.cpu().numpy(), effects, float(astray))


@contextlib.contextmanager
def _watched(
    model: LoadedModel,
    heads: AttentionHeads,
    path: LogitPath | None,
    seen: dict[tuple[str, int], Tensor],
) -> Iterator[None]:
    """Store values, inputs of output projections and inputs of norms of a pass in `seen`, by (name,
    layer)."""

    def keep_input(name: str, layer: int) -> Any:
        def hook(_m: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = first_tensor(args, kwargs)
            assert x is not None
            seen[name, layer] = x.clone()

        return hook

    def keep_values(layer: int) -> Any:
        def hook(_m: Any, _args: Any, output: Tensor) -> None:
            seen["values", layer] = output.clone()

        return hook

    def keep_pattern(layer: int) -> Any:
        def hook(_m: Any, _args: Any, output: Any) -> None:
            pos = seen["outputs", layer].numel() // (
                heads.widths[layer] * heads.weights(layer).d_head
            )
            seen["pattern", layer] = patterns.pattern_of(output, (1, pos), model.layout)

        return hook

    with contextlib.ExitStack() as hooks:

        def before(module: Any, name: str, layer: int) -> None:
            handle = module.register_forward_pre_hook(keep_input(name, layer), with_kwargs=True)
            hooks.callback(handle.remove)

        for layer, place in enumerate(heads.places):
            before(place.module, "outputs", layer)
            value_module = heads.projections[layer].value_module
            hooks.callback(value_module.register_forward_hook(keep_values(layer)).remove)
            norm = heads.norms[layer]
            if norm is not None:
                before(norm.module, "post", layer)
            if not isinstance(model.root, PreTrainedModel):
                attention = heads.attentions[layer]
                hooks.callback(attention.register_forward_hook(keep_pattern(layer)).remove)
        if path is not None and path.norm is not None:
            before(path.norm.module, "final", 0)
        yield
