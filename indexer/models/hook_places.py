"""Places in a block that a dictionary may read or approximate, as modules of the plain model.

Where a hook point is in the plain model is asked of TransformerLens's adapter, which has the same
aliases as its bridge.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from indexer.models.layout import Layout
from indexer.models.matrices import rows_by_input
from indexer.models.modules import unwrap
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
    HOOK_Z,
    MLP_HOOK_POINTS,
    TENSOR_HOOK_POINTS,
)
from indexer.models.units import Place

HOOK_RESID_MID, HOOK_RESID_POST = "hook_resid_mid", "hook_resid_post"
HOOK_MLP_OUT, MLP_IN, MLP_OUT = "hook_mlp_out", "mlp.hook_in", "mlp.hook_out"
READ_BY_PROJECTION = (HOOK_Q, HOOK_K, HOOK_V)
"""What each head reads of the residual stream by a matrix of its own."""

_LANDS = {
    **dict.fromkeys((HOOK_EMBED, HOOK_RESID_PRE), HOOK_RESID_PRE),
    **dict.fromkeys((HOOK_RESID_MID, HOOK_ATTN_OUT, HOOK_Z), HOOK_RESID_MID),
}


def lands_at(point: str) -> str:
    """The hook point at which what is at `point` is first in the residual stream."""
    return _LANDS.get(point, HOOK_RESID_POST)


def stream_place(layout: Layout, root: nn.Module, layer: int, lands: str) -> Place:
    """Where a vector can be added to the residual stream, so that all that follows has it.

    The residual stream in the middle of a block is no module's whole input: what is added to the
    attention's output is in it. Where attention and MLP are parallel, the block's output has it.
    """
    point = HOOK_ATTN_OUT if lands == HOOK_RESID_MID else lands
    place = None
    if lands != HOOK_RESID_MID or layout.target_of(HOOK_RESID_MID) is not None:
        place = find_place(layout, root, layer, point)
    block = layout.component(root, f"blocks.{layer}")
    assert block is not None  # every model has blocks
    return place or Place(block, "input" if lands == HOOK_RESID_PRE else "output")


def mlp_points_of(layout: Layout) -> tuple[str, ...]:
    """The hook points of MLP neurons that a model has."""
    has_pre = ("gate" if layout.gated else "in") in layout.mlp_modules
    has_norm = "ln" in layout.mlp_modules
    return (
        *((HOOK_PRE,) if has_pre else ()),
        *((HOOK_PRE_LINEAR,) if layout.gated and "in" in layout.mlp_modules else ()),
        *((HOOK_BEFORE_LN,) if has_norm else ()),
        HOOK_POST,
    )


def points_of(layout: Layout) -> tuple[str, ...]:
    """The hook points of a model that dictionaries may read or approximate."""
    return (
        *(point for point in TENSOR_HOOK_POINTS if layout.target_of(point) is not None),
        *(() if layout.mlp_problem else mlp_points_of(layout)),
        *(MLP_IN, MLP_OUT),
    )


def find_place(layout: Layout, root: nn.Module, layer: int, point: str) -> Place | None:
    """Where a hook point is in one layer; None where the model has no such module."""
    if point in (MLP_IN, MLP_OUT):
        module = layout.component(root, f"blocks.{layer}.mlp")
        return None if module is None else Place(module, "input" if point == MLP_IN else "output")
    if point in MLP_HOOK_POINTS:
        return _in_mlp(layout, root, layer, point)
    target = layout.target_of(point)
    if target is None:
        return None
    module = layout.component(root, target[0].format(layer))
    if module is None:
        return _fused(layout, root, layer, point) if point in READ_BY_PROJECTION else None
    beside = layout.component(root, f"blocks.{layer}") if point == HOOK_RESID_MID else None
    return Place(module, target[1], beside=beside, factor=layout.factor_of(point))


def width_of(layout: Layout, point: str) -> int | None:
    """The width of the tensor at a hook point; None where only the loaded model tells."""
    own = (HOOK_EMBED, HOOK_Z, *READ_BY_PROJECTION, *MLP_HOOK_POINTS)
    return None if point in own else layout.d_model


def _in_mlp(layout: Layout, root: nn.Module, layer: int, point: str) -> Place | None:
    """Where a hook point of MLP neurons is."""
    if point not in mlp_points_of(layout):
        return None
    if point in (HOOK_POST, HOOK_BEFORE_LN):
        name = "out" if point == HOOK_POST else "ln"
        module = layout.component(root, f"blocks.{layer}.mlp.{name}")
        return None if module is None else Place(module, "input")
    gate = layout.gated and point == HOOK_PRE
    return layout.input_projection(root, layer, "gate" if gate else "in")


def _fused(layout: Layout, root: nn.Module, layer: int, point: str) -> Place | None:
    """Queries, keys or values of a module that computes all three.

    TransformerLens knows how each architecture arranges the three: it splits a copy of the module
    whose weights are the numbers of its outputs, and so says which output is which.
    """
    split = layout.qkv_splitter()
    attention = layout.component(root, f"blocks.{layer}.attn")
    fused = layout.component(root, f"blocks.{layer}.attn.qkv")
    if split is None or attention is None or fused is None:
        return None
    own = unwrap(attention)
    numbered = copy.deepcopy(unwrap(fused)).float().cpu()
    shell = copy.copy(own)
    shell._modules = dict(own._modules)
    names = [name for name, module in own._modules.items() if module is unwrap(fused)]
    if len(names) != 1:
        return None
    shell._modules[names[0]] = numbered
    weight = numbered.weight
    assert isinstance(weight, Tensor)
    with torch.no_grad():
        if isinstance(numbered, Conv1D):
            weight.copy_(torch.arange(weight.shape[1]).expand_as(weight))
        else:
            weight.copy_(torch.arange(weight.shape[0])[:, None].expand_as(weight))
        part = split(shell)[READ_BY_PROJECTION.index(point)]
        columns = rows_by_input(part, layout.d_model)[0].round().long()
    return Place(unwrap(fused), "output", columns=columns.to(next(own.parameters()).device))
