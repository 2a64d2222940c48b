"""Facts about neurons that need the weights alone: what each one writes to the residual stream, and
which tokens that makes likelier. Apart from the scan, because no text is read for it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from indexer.errors import NeurariumError
from indexer.model import LoadedModel
from indexer.model_layers import HOOK_POST, unwrap

_BLOCK = 1 << 25
"""Logits held at once: 128 MiB in float32."""


@dataclass(frozen=True)
class LogitEffects:
    """For each neuron of a layer, the tokens whose logits it raises and lowers most."""

    top_values: Float32[np.ndarray, "neurons k"]
    """Largest first; ties: the lower token id first."""
    top_ids: Int32[np.ndarray, "neurons k"]
    bottom_values: Float32[np.ndarray, "neurons k"]
    """Most negative first; ties: the lower token id first."""
    bottom_ids: Int32[np.ndarray, "neurons k"]


@torch.inference_mode()
def logit_effects(
    model: LoadedModel, layer: int, k: int = 15, *, vocab_size: int | None = None
) -> LogitEffects:
    """What one unit of each neuron's activation adds directly to the logits, up to the final norm's
    scale, which depends on the input.

    The write vector, minus its mean if the final norm centres (LayerNorm), times the final norm's
    weight (1 + weight in Gemma), @ W_U, times the architecture's constant scale of logits, if any
    (Cohere, Granite). Biases and a final softcap are left out. Only ids below `vocab_size` take
    part (default: those the tokenizer knows; the rest of the unembedding is padding). Computed in
    float32 on the model's device; `k` is cut to the vocabulary.
    """
    size = model.known_tokens if vocab_size is None else min(vocab_size, model.d_vocab)
    k = min(k, size)
    directions = _through_final_norm(model, write_vectors(model, layer))
    unembedding = _unembedding(model)[:size].float() * model.layout.logit_scale()
    tops, bottoms = [], []
    block = max(1, _BLOCK // max(1, size))
    for start in range(0, directions.shape[0], block):
        effects = directions[start : start + block] @ unembedding.T
        tops.append(_largest(effects, k))
        values, ids = _largest(effects.neg_(), k)
        bottoms.append((-values, ids))
    return LogitEffects(*_joined(tops), *_joined(bottoms))


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
    vectors = _rows(unwrap(layout.output_projection(root, layer)), model.widths[layer])
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


def _through_final_norm(model: LoadedModel, vectors: Tensor) -> Tensor:
    norm = model.layout.final_norm(model.root)
    if norm is not None:
        vectors = _scaled(vectors, unwrap(norm))
    project = model.layout.component(model.root, "project_out")  # OPT 350m
    if project is not None:
        vectors = vectors @ _rows(unwrap(project), vectors.shape[1])
    return vectors


def _unembedding(model: LoadedModel) -> Float[Tensor, "d_vocab d_model"]:
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


def _rows(projection: nn.Module, width: int) -> Float[Tensor, "inputs outputs"]:
    """A linear module's weight with one row an input, in float32, whichever way it is stored."""
    weight = getattr(projection, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise NeurariumError(
            "The weights of this model are stored in a quantised form that cannot be read as "
            "numbers: load an unquantised checkpoint."
        )
    weight = weight.detach().float()
    stored_by_input = isinstance(projection, Conv1D) or (
        not isinstance(projection, nn.Linear) and weight.shape[0] == width
    )
    return weight if stored_by_input else weight.T


def _largest(values: Float[Tensor, "n size"], k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, largest first; ties, also at the k-th place: lower id first."""
    best, ids = values.topk(min(k + 1, values.shape[1]), dim=1)
    if best.shape[1] > k:
        tied = (best[:, k - 1] == best[:, k]).nonzero()[:, 0]
        best, ids = best[:, :k].clone(), ids[:, :k].clone()
        if len(tied):
            order = values[tied].sort(dim=1, descending=True, stable=True)
            best[tied], ids[tied] = order.values[:, :k], order.indices[:, :k]
    ids, by_id = ids.sort(dim=1)
    best, by_value = best.gather(1, by_id).sort(dim=1, descending=True, stable=True)
    return best, ids.gather(1, by_value)


def _joined(
    blocks: list[tuple[Tensor, Tensor]],
) -> tuple[Float32[np.ndarray, "n k"], Int32[np.ndarray, "n k"]]:
    values = torch.cat([values for values, _ in blocks]).cpu().numpy()
    ids = torch.cat([ids for _, ids in blocks]).to(torch.int32).cpu().numpy()
    return values, ids
