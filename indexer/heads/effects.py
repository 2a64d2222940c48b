"""Direct effects of heads: what each head's output adds by itself to a token's logit.

logit = logit scale × (W_U[t] · (gain ∘ (x − mean)) ÷ scale + W_U[t] · bias) + b_U[t], where x, the
last residual stream, is a sum over the embedding, the heads, the MLPs and biases. With the scale
as it was on this input, each summand adds its own part (Elhage et al. 2021).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from indexer.captured import CapturedHeads
from indexer.errors import NeurariumError
from indexer.models.heads import AttentionHeads
from indexer.models.loaded import LoadedModel
from indexer.models.modules import first_tensor
from indexer.models.norms import ScaledNorm, scaled_norm
from indexer.weights.embedding import unembedding


@dataclass(frozen=True, eq=False)
class LogitPath:
    """The way from the last residual stream to the logits."""

    norm: ScaledNorm | None
    unembedding: Float[Tensor, "d_vocab d_model"]
    logit_scale: float

    def directions(self, targets: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d_model"]:
        """What the last residual stream is multiplied by for the logits of `targets`, up to the
        final norm's scale."""
        rows = self.unembedding[targets].float() * self.logit_scale
        return rows if self.norm is None else self.norm.back(rows)


def heads_of(model: LoadedModel) -> AttentionHeads:
    """The model's heads. Raises `NeurariumError` if it was loaded for other units."""
    if not isinstance(model.units, AttentionHeads):
        raise NeurariumError(f"{model.source.label!r} was not loaded for its attention heads.")
    return model.units


def logit_path(model: LoadedModel) -> LogitPath | None:
    """The way to the logits, or None where what a head adds meets other norms on it (models that
    normalise after each addition: OPT 350m, GPT-1)."""
    layout = model.layout
    if "ln_final" not in layout.adapter.get_component_mapping():
        return None
    final = layout.final_norm(model.root)
    norm = None if final is None else scaled_norm(final, layout.d_model, model.device)
    weight = unembedding(model)
    if weight.shape[1] != layout.d_model:
        return None
    return LogitPath(norm, weight, layout.logit_scale())


def head_effects(
    heads: AttentionHeads,
    layer: int,
    captured: CapturedHeads,
    directions: Float[Tensor, "n d_model"],
    which: Int[Tensor, "batch pos"],
) -> Float[Tensor, "batch pos head"]:
    """What each head of a layer adds to a logit at each position, up to the final norm's scale, in
    float32: output · W_O · direction.

    `directions` are those of the different targets; position p's target is `which[p]`. The bias of
    the output projection belongs to no head.
    """
    norm, out = heads.norms[layer], heads.weights(layer).out
    if norm is not None:
        directions = norm.back(directions)
    # A target's direction is read through W_O once, however often it is a target.
    read = directions @ out.flatten(0, 1).T
    added = torch.empty(*which.shape, len(out), device=read.device)
    for context, outputs in enumerate(captured.outputs):
        at = read[which[context]].view_as(outputs)
        at *= outputs.float()
        added[context] = at.sum(-1)
    if norm is not None:
        assert captured.norm_scale is not None
        added /= captured.norm_scale[..., None]
    return added * heads.residual_multiplier


def next_tokens(
    tokens: Int[Tensor, "batch pos"],
) -> Int[Tensor, "batch pos"]:
    """The token after each position; after the last, the last itself, which never counts."""
    return torch.cat([tokens[:, 1:], tokens[:, -1:]], dim=1)


class EffectPass:
    """The direct effects of all heads in one forward pass: give `on_heads` and `hooks` to it, then
    read `effects`."""

    def __init__(
        self, heads: AttentionHeads, path: LogitPath, targets: Int[Tensor, "batch pos"]
    ) -> None:
        self._heads, self._path = heads, path
        different, which = np.unique(targets.cpu().numpy(), return_inverse=True)
        self._which = torch.from_numpy(which.reshape(targets.shape)).to(targets.device)
        self._directions = path.directions(torch.from_numpy(different).to(targets.device))
        self._unscaled: list[Float[Tensor, "batch pos head"]] = []
        self._scale: Float[Tensor, "batch pos"] | None = None

    def on_heads(self, layer: int, captured: CapturedHeads) -> None:
        """Take a layer's heads."""
        self._unscaled.append(
            head_effects(self._heads, layer, captured, self._directions, self._which)
        )

    @contextlib.contextmanager
    def hooks(self) -> Iterator[None]:
        """Read the final norm's scale while the pass runs."""
        norm = self._path.norm
        if norm is None:
            yield
            return

        def before(_m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = first_tensor(args, kwargs)
            assert x is not None
            self._scale = norm.scale(x.reshape(*self._which.shape, x.shape[-1]))

        handle = norm.module.register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def effects(self, layer: int) -> Float[Tensor, "batch pos head"]:
        """What each head of a layer adds to the logit of each position's target."""
        if self._scale is None:
            return self._unscaled[layer]
        return self._unscaled[layer] / self._scale[..., None]
