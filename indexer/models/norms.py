"""A norm of a model, whose output is a linear map of its input divided by a scale: the scale at
every position, from which follows what single parts of the input add to the output.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from indexer.models.modules import norm_gain, unwrap


@dataclass(frozen=True, eq=False)
class ScaledNorm:
    """norm(x) = linear(x) ÷ scale(x) + bias."""

    module: nn.Module
    """As it is in the model, for hooks."""
    own: nn.Module
    """A copy in float32, without hooks."""
    gain: Float[Tensor, " d_model"]
    centred: bool
    bias: Float[Tensor, " d_model"]

    def linear(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """The input, centred where the norm centres, times the gain, in float32."""
        x = x.float()
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        return x * self.gain

    def back(self, direction: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """The direction d′ before the norm for which linear(x) · direction = x · d′: the transpose
        of `linear` applied to it."""
        direction = direction * self.gain
        return direction - direction.mean(-1, keepdim=True) if self.centred else direction

    def scale(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        """What the norm divides by at each position, its epsilon included, in float32.

        Measured from the module's output, since models' epsilons and formulas differ; 1 where the
        input is 0.
        """
        x = x.float()
        linear = self.linear(x)
        along = (linear * (self.own(x) - self.bias)).sum(-1)
        squares = linear.square().sum(-1)
        return torch.where(along > 0, squares / along, 1.0)


def scaled_norm(module: nn.Module, width: int, device: torch.device) -> ScaledNorm:
    """The norm of a module of a model."""
    own = copy.deepcopy(unwrap(module)).to(device=device, dtype=torch.float32)
    own.requires_grad_(False)
    for hooks in (own._forward_hooks, own._forward_pre_hooks):
        hooks.clear()
    with torch.inference_mode():
        gain, centred = norm_gain(own, width, device)
        bias: Tensor = own(torch.zeros(1, 1, width, device=device))[0, 0]
    return ScaledNorm(module, own, gain, centred, bias)
