"""Places on the residual stream's way through a block, by TransformerLens's names, as modules of
the plain model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from indexer.models.layout import Layout
from indexer.models.units import Place

POINTS = (
    "hook_resid_pre",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
    "mlp.hook_in",
    "mlp.hook_out",
    "attn.hook_z",
)
"""Hook points that dictionaries may read or approximate."""


@dataclass(frozen=True)
class _Side:
    components: tuple[str, ...]
    """TransformerLens's names in the block, the first that the model has; "" is the block."""
    side: Literal["input", "output"]


_SIDES = {
    "hook_resid_pre": _Side(("",), "input"),
    "hook_resid_post": _Side(("",), "output"),
    "hook_attn_out": _Side(("ln1_post", "attn"), "output"),
    "hook_mlp_out": _Side(("ln2_post", "mlp"), "output"),
    "mlp.hook_in": _Side(("mlp",), "input"),
    "mlp.hook_out": _Side(("mlp",), "output"),
    "attn.hook_z": _Side(("attn.o",), "input"),
}


def find_place(layout: Layout, root: nn.Module, layer: int, point: str) -> Place | None:
    """Where a hook point is in one layer; None where the model has no such module."""
    side = _SIDES.get(point)
    if side is None:
        return None
    if point == "hook_mlp_out":
        norm = layout.mlp_norm(root, layer)
        if norm is not None:
            return Place(norm, "output")
    for component in side.components:
        path = f"blocks.{layer}.{component}".rstrip(".")
        module = layout.component(root, path)
        if module is not None:
            return Place(module, side.side)
    return None


def width_of(layout: Layout, point: str) -> int | None:
    """The width of the tensor at a hook point; None where only the loaded model tells."""
    return None if point == "attn.hook_z" else layout.d_model
