"""What a neuron writes to the residual stream, and the way from there to the logits. Apart from the
facts made of it, because most of them start here.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from indexer.errors import NeurariumError
from indexer.models.capture import LoadedModel
from indexer.models.hook_points import HOOK_POST, unwrap


@torch.inference_mode()
def write_vectors(model: LoadedModel, layer: int) -> Float[Tensor, "neurons d_model"]:
    """What reaches the residual stream per unit of each neuron's activation, in float32.

    The rows of W_out; for SoLU captured before its LayerNorm, scaled by that LayerNorm's weight and
    centred over the neurons, up to its scale; then through the norm after the MLP, if the block has
    one (Gemma 2 and 3, OLMo 2), up to its scale; times the constant that multiplies what is added
    (Granite, Falcon-H1). A neuron captured before its activation function (`mlp.hook_pre`) has the
    vector it has after it: it is the activation that writes, the value captured only drives it.
    """
    layout, root = model.layout, model.root
    vectors = rows_by_input(
        unwrap(layout.output_projection(root, layer)), model.widths[layer]
    ).float()
    inner = layout.component(root, f"blocks.{layer}.mlp.ln")
    if inner is not None and model.hook_point != HOOK_POST:
        gain, centred = norm_gain(unwrap(inner), vectors.shape[0], vectors.device)
        vectors = gain[:, None] * vectors
        if centred:
            vectors = vectors - vectors.mean(0, keepdim=True)
    outer = layout.mlp_norm(root, layer)
    if outer is not None:
        vectors = _scaled(vectors, unwrap(outer))
    for owner, constant in (
        (getattr(root, "config", None), "residual_multiplier"),
        (layout.component(root, f"blocks.{layer}.mlp"), "down_multiplier"),
    ):
        vectors = vectors * float(getattr(owner, constant, None) or 1.0)
    return vectors


def norm_gain(
    norm: nn.Module, width: int, device: torch.device
) -> tuple[Float[Tensor, " width"], bool]:
    """A norm's elementwise weight, and whether it centres its input (LayerNorm) or not (RMSNorm).

    Measured, not read: models store the weight as it is, as 1 + weight, or not at all, and only
    what the module does is sure. A module that does not normalise has its own slope as weight.
    """
    norm = copy.deepcopy(norm).to(device=device, dtype=torch.float32)
    scale = 1024.0  # so large that the norm's epsilon is nothing beside it
    probe = torch.ones(width, device=device)
    probe[1::2] = -1
    if width % 2 and width > 1:
        probe[-3:] = torch.tensor([1.0, 1.0, -2.0], device=device)  # a mean of 0 all the same
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


def _scaled(vectors: Tensor, norm: nn.Module) -> Tensor:
    """Vectors of the residual stream through a norm, up to its scale."""
    gain, centred = norm_gain(norm, vectors.shape[1], vectors.device)
    if centred:
        vectors = vectors - vectors.mean(1, keepdim=True)
    return vectors * gain


def through_final_norm(
    model: LoadedModel, vectors: Float[Tensor, "n d_model"]
) -> Float[Tensor, "n d_out"]:
    """Vectors of the residual stream as the unembedding meets them, up to the norm's scale."""
    norm = model.layout.final_norm(model.root)
    if norm is not None:
        vectors = _scaled(vectors, unwrap(norm))
    project = model.layout.component(model.root, "project_out")  # OPT 350m
    if project is not None:
        vectors = vectors @ rows_by_input(unwrap(project), vectors.shape[1]).float()
    return vectors


def unembedding(model: LoadedModel) -> Float[Tensor, "d_vocab d_out"]:
    """The unembedding's weight as it is stored. Raises `NeurariumError` where it is not found."""
    root: Any = model.root
    head = model.layout.component(root, "unembed")
    if head is None and hasattr(root, "get_output_embeddings"):
        head = root.get_output_embeddings()
    weight = getattr(unwrap(head), "weight", None) if head is not None else None
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise NeurariumError(
            f"The unembedding of {model.source.label!r} ({model.architecture}) cannot be found: "
            "its logit effects are unknown."
        )
    return weight.detach()


def rows_by_input(projection: nn.Module, width: int) -> Float[Tensor, "inputs outputs"]:
    """A linear module's weight with one row an input, whichever way it is stored: no copy.

    Raises `NeurariumError` for a quantised one.
    """
    weight = getattr(projection, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise NeurariumError(
            "The weights of this model are stored in a quantised form that cannot be read as "
            "numbers: load an unquantised checkpoint."
        )
    weight = weight.detach()
    stored_by_input = isinstance(projection, Conv1D) or (
        not isinstance(projection, nn.Linear) and weight.shape[0] == width
    )
    return weight if stored_by_input else weight.T
