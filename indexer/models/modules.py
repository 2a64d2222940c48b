"""Norms of any model, read alike: what a norm multiplies by and divides by, however the model
stores it.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn


def unwrap(module: nn.Module) -> nn.Module:
    """The model's own module inside TransformerLens's wrappers, if it has any."""
    while isinstance(inner := getattr(module, "original_component", None), nn.Module):
        module = inner
    return module


def norm_gain(
    norm: nn.Module, width: int, device: torch.device
) -> tuple[Float[Tensor, " width"], bool]:
    """A norm's elementwise weight, and whether it centres its input (LayerNorm) or not (RMSNorm).

    Measured, not read: models store the weight as it is, as 1 + weight, or not at all, so only the
    module's output can be trusted. A module that does not normalise has its own slope as weight.
    """
    norm = copy.deepcopy(norm).to(device=device, dtype=torch.float32)
    scale = 1024.0  # so large that the norm's epsilon does not matter
    probe = torch.ones(width, device=device)
    probe[1::2] = -1
    if width % 2 and width > 1:
        probe[-3:] = torch.tensor([1.0, 1.0, -2.0], device=device)  # the mean stays 0
    probe = scale * probe / probe.square().mean().sqrt()

    def odd_part(x: Tensor) -> Tensor:
        difference: Tensor = norm(x[None, None]) - norm(-x[None, None])
        return difference[0, 0] / 2

    out = odd_part(probe)
    if torch.allclose(odd_part(2 * probe), 2 * out, rtol=1e-3):
        return out / probe, False
    gain = out / (probe / scale)
    centred = torch.allclose(odd_part(probe + scale), out, rtol=1e-2, atol=1e-3)
    return gain, centred


def norm_scale(norm: nn.Module, x: Float[Tensor, " width"]) -> float:
    """What a norm divides by at the input `x`, its epsilon included.

    Measured: the odd part of its output is gain × (centred) x ÷ scale, whatever its bias.
    """
    gain, centred = norm_gain(norm, x.shape[0], x.device)
    shaped = gain * (x - x.mean() if centred else x)
    norm = copy.deepcopy(norm).to(torch.float32)
    odd = (norm(x[None, None]) - norm(-x[None, None]))[0, 0] / 2
    along = float(odd @ shaped)
    return float(shaped @ shaped) / along if along else 1.0


def through_norm(vectors: Float[Tensor, "n width"], norm: nn.Module) -> Float[Tensor, "n width"]:
    """Vectors after a norm, without the division by its scale, which depends on the input."""
    gain, centred = norm_gain(norm, vectors.shape[1], vectors.device)
    if centred:
        vectors = vectors - vectors.mean(1, keepdim=True)
    return vectors * gain


def first_tensor(args: tuple[object, ...], kwargs: dict[str, object]) -> Tensor | None:
    """The first tensor among a module's arguments, positional ones first; None without tensors."""
    return next((given for given in (*args, *kwargs.values()) if isinstance(given, Tensor)), None)
