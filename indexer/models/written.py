"""What lies between a tensor of a layer and the residual stream: what its dimensions, or a
dictionary's directions, add to the stream."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from indexer.errors import NeurariumError
from indexer.models.hook_places import (
    HOOK_MLP_OUT,
    HOOK_RESID_MID,
    HOOK_RESID_POST,
    MLP_IN,
    MLP_OUT,
    find_place,
    lands_at,
)
from indexer.models.layout import Layout
from indexer.models.matrices import rows_by_input
from indexer.models.modules import norm_gain, through_norm, unwrap
from indexer.models.names import (
    HOOK_ATTN_OUT,
    HOOK_BEFORE_LN,
    HOOK_EMBED,
    HOOK_K,
    HOOK_POST,
    HOOK_PRE,
    HOOK_PRE_LINEAR,
    HOOK_Q,
    HOOK_RESID_PRE,
    HOOK_V,
)
from indexer.models.units import Unknown

STREAM = (HOOK_EMBED, HOOK_RESID_PRE, HOOK_RESID_MID, HOOK_RESID_POST)
"""The residual stream itself."""
ADDS_NOTHING = {
    HOOK_Q: "A query adds nothing itself: it decides with the keys where its head attends.",
    HOOK_K: "A key adds nothing itself: it decides with the queries where its head attends.",
    HOOK_V: "A value is added at other positions, as much as heads attend to it there: it has no "
    "logit effects of its own.",
    HOOK_PRE: "What is before the MLP's activation function adds nothing itself: what it makes of "
    "a direction depends on all that is there.",
    HOOK_PRE_LINEAR: "The linear part of a gated MLP adds nothing itself: it is multiplied by the "
    "gates.",
    MLP_IN: "What an MLP reads adds nothing itself: what the MLP makes of a direction depends on "
    "all that is there.",
}
"""Why nothing at a hook point has a vector of its own in the residual stream."""


@dataclass(frozen=True)
class Way:
    """The operations between a tensor and the residual stream."""

    matrix: Float[Tensor, "n d_model"] | None
    """What each number of the tensor adds to the stream, in float32, up to the scales of the norms;
    None: the tensor is in the stream, or added to it, as it is."""
    lands: str
    """The hook point of the layer at which it is first in the stream."""
    inner_norm: nn.Module | None = None
    """A norm over the tensor itself (SoLU)."""
    outer_norm: nn.Module | None = None
    """A norm over d_model on the way (Gemma 2 and 3, OLMo 2)."""


@torch.inference_mode()
def way_to_stream(
    layout: Layout, root: nn.Module, layer: int, point: str, width: int
) -> Way | Unknown:
    """The way from the tensor at a hook point, of this width, to the residual stream.

    Unknown where there is none, or the matrix on it does not belong to the tensor.
    """
    lands = lands_at(point)
    if point in ADDS_NOTHING:
        return Unknown(ADDS_NOTHING[point])
    if point in STREAM:
        return Way(None, lands)
    inner = None
    try:
        matrix = _projection(layout, root, layer, point, width)
    except NeurariumError as error:
        return Unknown(f"What layer {layer} writes is not known: {error}")
    if point == HOOK_BEFORE_LN:
        inner = layout.component(root, f"blocks.{layer}.mlp.ln")
    if matrix is not None and inner is not None:
        gain, centred = norm_gain(unwrap(inner), width, matrix.device)
        matrix = gain[:, None] * matrix
        matrix = matrix - matrix.mean(0) if centred else matrix
    of_attention = lands == HOOK_RESID_MID
    norm = (layout.attention_norm if of_attention else layout.mlp_norm)(root, layer)
    place = find_place(layout, root, layer, point)
    if norm is not None and place is not None and place.module is norm and place.side == "output":
        norm = None  # the tensor is behind it
    scale = _constant(layout, root, layer, point)
    if matrix is None and (norm is not None or scale != 1):
        device = next(root.parameters()).device
        matrix = torch.eye(width, device=device)
    if matrix is not None:
        matrix = matrix if norm is None else through_norm(matrix, unwrap(norm))
        matrix = matrix if scale == 1 else matrix * scale
    return Way(matrix, lands, inner, norm)


def _projection(
    layout: Layout, root: nn.Module, layer: int, point: str, width: int
) -> Float[Tensor, "n d_model"] | None:
    """The rows of W_out or W_O; None where the tensor is behind them. Raises `NeurariumError`."""
    if point in (HOOK_ATTN_OUT, HOOK_MLP_OUT, MLP_OUT):
        return None
    if point in (HOOK_POST, HOOK_BEFORE_LN):
        out: nn.Module | None = layout.output_projection(root, layer)
    else:
        place = find_place(layout, root, layer, point)
        out = None if place is None or place.side != "input" else place.module
    if out is None:
        raise NeurariumError(f"{point} cannot be found.")
    return rows_by_input(unwrap(out), width).float()


def _constant(layout: Layout, root: nn.Module, layer: int, point: str) -> float:
    """What multiplies a block's own outputs (Granite, Falcon-H1)."""
    if layout.factor_of(point) != 1:
        return 1.0  # the tensor has it already
    scale = float(getattr(getattr(root, "config", None), "residual_multiplier", None) or 1.0)
    if point in (HOOK_POST, HOOK_BEFORE_LN):
        mlp = layout.component(root, f"blocks.{layer}.mlp")
        scale *= float(getattr(mlp, "down_multiplier", None) or 1.0)
    return scale
