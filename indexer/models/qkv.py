"""How queries, keys and values lie in the outputs of the modules that compute them: in three
modules, or fused in one, in one of the orders in use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Split = Literal["alone", "side_by_side", "by_group"]
Parts = tuple[Tensor | None, Tensor | None, Tensor]
"""Queries, keys and values [..., heads, d_head]; keys and values may have fewer heads."""


@dataclass(frozen=True)
class Projection:
    """The modules that compute a layer's queries, keys and values."""

    split: Split
    value_module: nn.Module
    query_module: nn.Module | None
    """None where it is not known, and the QK circuit is not either."""
    key_module: nn.Module | None


def by_head(values: Float[Tensor, "*batch n"], d_head: int) -> Float[Tensor, "*batch heads d_head"]:
    """Heads side by side, one after the other: a view."""
    return values.view(*values.shape[:-1], -1, d_head)


def alone(values: Float[Tensor, "*batch n"], heads: int, d_head: int) -> Parts:
    """A module's output is values alone."""
    return None, None, by_head(values, d_head)


def side_by_side(fused: Float[Tensor, "*batch n"], heads: int, d_head: int) -> Parts:
    """All queries, then all keys, then all values (GPT-2, Phi-3)."""
    parts = by_head(fused, d_head)
    groups = (parts.shape[-2] - heads) // 2
    queries, keys = parts[..., :heads, :], parts[..., heads : heads + groups, :]
    return queries, keys, parts[..., heads + groups :, :]


def by_group(fused: Float[Tensor, "*batch n"], heads: int, d_head: int) -> Parts:
    """For each group of queries its queries, its key and its value (GPT-NeoX, BLOOM, Falcon)."""
    parts = by_head(fused, d_head)
    groups = (parts.shape[-2] - heads) // 2
    grouped = parts.view(*parts.shape[:-2], groups, heads // groups + 2, d_head)
    queries = grouped[..., :-2, :].flatten(-3, -2)
    return queries, grouped[..., -2, :], grouped[..., -1, :]


SPLITS: dict[Split, Callable[[Tensor, int, int], Parts]] = {
    "alone": alone,
    "side_by_side": side_by_side,
    "by_group": by_group,
}


def repeated(
    parts: Float[Tensor, "*batch groups d_head"], heads: int
) -> Float[Tensor, "*batch heads d_head"]:
    """Grouped keys or values, each repeated for the heads that share it."""
    return parts.repeat_interleave(heads // parts.shape[-2], dim=-2)


def find_projections(
    pattern: Float[Tensor, "batch heads query key"],
    outputs: Float[Tensor, "batch pos n"],
    computed: dict[str, tuple[nn.Module, Tensor]],
) -> Projection | None:
    """The modules and the order whose values, times the pattern, are the heads' outputs; None if
    there are none. `computed` are modules and outputs under TransformerLens's names."""
    heads = pattern.shape[1]
    d_head, rest = divmod(outputs.shape[-1], heads)
    if rest:
        return None
    if "v" in computed:
        module, values = computed["v"]
        if _fits(pattern, outputs, values, "alone", d_head):
            query, key = computed.get("q"), computed.get("k")
            return Projection("alone", module, query and query[0], key and key[0])
    if "qkv" in computed:
        module, fused = computed["qkv"]
        orders: tuple[Split, ...] = ("side_by_side", "by_group")
        for split in orders:
            if _fits(pattern, outputs, fused, split, d_head):
                return Projection(split, module, module, module)
    return None


def _fits(pattern: Tensor, outputs: Tensor, computed: Tensor, split: Split, d_head: int) -> bool:
    """Whether pattern × values, as `split` finds values in the module's output `computed` [batch,
    pos, columns], are the heads' outputs [batch, pos, head · d_head]."""
    heads = pattern.shape[1]
    columns, rest = divmod(computed.shape[-1], d_head)
    groups = columns if split == "alone" else (columns - heads) // 2
    whole = groups if split == "alone" else heads + 2 * groups
    if rest or groups < 1 or heads % groups or columns != whole:
        return False
    values = repeated(SPLITS[split](computed, heads, d_head)[2], heads)
    made = torch.einsum("bhqk,bkhd->bqhd", pattern.float(), values.float()).flatten(-2)
    largest = float(outputs.float().abs().max())
    return bool(torch.allclose(made, outputs.float(), rtol=0.02, atol=0.01 * largest))
