"""Places in a block that a dictionary may read or approximate, as modules of the plain model."""

from __future__ import annotations

from torch import nn

from indexer.models.layout import Layout
from indexer.models.names import HOOK_ATTN_OUT, HOOK_EMBED, HOOK_RESID_PRE, HOOK_Z
from indexer.models.units import Place

HOOK_RESID_MID, HOOK_RESID_POST = "hook_resid_mid", "hook_resid_post"
HOOK_MLP_OUT, MLP_IN, MLP_OUT = "hook_mlp_out", "mlp.hook_in", "mlp.hook_out"
POINTS = (
    *(HOOK_RESID_PRE, HOOK_RESID_MID, HOOK_RESID_POST, HOOK_ATTN_OUT, HOOK_MLP_OUT),
    *(HOOK_Z, MLP_IN, MLP_OUT),
)
"""Hook points that dictionaries may read or approximate."""

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


def points_of(layout: Layout) -> tuple[str, ...]:
    """Those of `POINTS` that a model has."""
    own = (MLP_IN, MLP_OUT)
    return tuple(point for point in POINTS if point in own or layout.target_of(point) is not None)


def find_place(layout: Layout, root: nn.Module, layer: int, point: str) -> Place | None:
    """Where a hook point is in one layer; None where the model has no such module."""
    if point in (MLP_IN, MLP_OUT):
        module = layout.component(root, f"blocks.{layer}.mlp")
        return None if module is None else Place(module, "input" if point == MLP_IN else "output")
    target = layout.target_of(point)
    if target is None:
        return None
    module = layout.component(root, target[0].format(layer))
    if module is None:
        return None
    return Place(module, target[1], beside=beside(layout, root, layer, point))


def beside(layout: Layout, root: nn.Module, layer: int, point: str) -> nn.Module | None:
    """`Place.beside` of a hook point."""
    return layout.component(root, f"blocks.{layer}") if point == HOOK_RESID_MID else None


def width_of(layout: Layout, point: str) -> int | None:
    """The width of the tensor at a hook point; None where only the loaded model tells."""
    return None if point == HOOK_Z else layout.d_model
