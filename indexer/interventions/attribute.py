"""Direct logit attribution of one neuron on one text."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from indexer.models.hook_points import unwrap
from indexer.models.load import LoadedModel
from indexer.weights.write import norm_gain, through_final_norm, unembedding, write_vectors


@dataclass(frozen=True)
class Attribution:
    """Direct logit attribution: `value` = `activation` × `logit_effect` ÷ `scale`."""

    token_id: int
    """The token predicted with the neuron left alone."""
    activation: float
    """What the neuron writes with at the last position: its activation; where it is captured before
    its activation function, its value after it."""
    logit_effect: float
    """What one unit adds to the token's logit, by the weights alone (`indexer.weights.effects`)."""
    scale: float
    """What the final norm divides by at the last position; times that of the norm after the MLP
    (Gemma 2 and 3, OLMo 2) or inside it (SoLU), where the neuron's write goes through one."""
    value: float
    """What the neuron itself adds to the token's logit at the last position, in logits."""


@dataclass
class Norms:
    """The norms between a neuron and the logits."""

    final: nn.Module | None
    after_mlp: nn.Module | None
    inside_mlp: nn.Module | None


def attribution(
    model: LoadedModel,
    layer: int,
    neuron: int,
    token_id: int,
    norms: Norms,
    seen: dict[str, Tensor],
) -> Attribution:
    """Direct logit attribution at the last position, every norm's scale as it was there."""
    vector = write_vectors(model, layer)[neuron]  # through the MLP's own norms but for their scale
    scale = 1.0
    if norms.inside_mlp is not None:
        scale *= _scale(unwrap(norms.inside_mlp), seen["neurons"])
    if norms.after_mlp is not None:
        scale *= _scale(unwrap(norms.after_mlp), seen["after_mlp"])
    if norms.final is not None:
        scale *= _scale(unwrap(norms.final), seen["final"])
    direction = through_final_norm(model, vector[None])[0]
    effect = float(unembedding(model)[token_id].float() @ direction) * model.layout.logit_scale()
    written = float(seen["neurons"][neuron])
    return Attribution(token_id, written, effect, scale, written * effect / scale)


def _scale(norm: nn.Module, x: Float[Tensor, " width"]) -> float:
    """What a norm divides by at the input `x`, its epsilon included.

    Measured: the odd part of its output is gain × (centred) x ÷ scale, whatever its bias.
    """
    gain, centred = norm_gain(norm, x.shape[0], x.device)
    shaped = gain * (x - x.mean() if centred else x)
    norm = copy.deepcopy(norm).to(torch.float32)
    odd = (norm(x[None, None]) - norm(-x[None, None]))[0, 0] / 2
    along = float(odd @ shaped)
    return float(shaped @ shaped) / along if along else 1.0
