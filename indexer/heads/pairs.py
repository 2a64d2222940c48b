"""Pairs of positions (query, key) of a batch: the best of every head and context, and what is kept
of a context that was chosen.

A pair counts if key < query and both positions are included: a head's attention to itself and to
special tokens is in its scores, and would hide everything else here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from indexer.captured import CapturedHeads

Array = np.ndarray[Any, Any]


def valid_pairs(included: Bool[Tensor, "batch pos"]) -> Bool[Tensor, "batch query key"]:
    """Which pairs count."""
    both = included[:, :, None] & included[:, None, :]
    return both & both.new_ones(both.shape[1:]).tril(-1)


@dataclass(frozen=True)
class BestValues:
    """The best pair's values of every context and head, in float32; −1 where no pair counts."""

    moved: Float32[np.ndarray, "batch head"]
    """Attention × ‖v_k W_O‖."""
    attention: Float32[np.ndarray, "batch head"]


def best_values(captured: CapturedHeads, valid: Bool[Tensor, "batch query key"]) -> BestValues:
    """The largest value of both rankings over all pairs that count."""
    counted = captured.pattern.float().masked_fill(~valid[:, None], 0.0)
    attention = counted.amax(dim=(2, 3))
    moved = counted.mul_(captured.value_norms[:, :, None]).amax(dim=(2, 3))
    none = ~valid.flatten(1).any(1)[:, None]
    return BestValues(*(_host(values.masked_fill(none, -1)) for values in (moved, attention)))


@dataclass(frozen=True)
class Places:
    """Where chosen (context, head) pairs of a layer's batch have their best pair."""

    queries: Int64[np.ndarray, " m"]
    keys: Int64[np.ndarray, " m"]


def best_places(
    pattern: Float32[np.ndarray, "m query key"],
    weights: Float32[np.ndarray, "m key"],
    valid: Bool[np.ndarray, "m query key"],
) -> Places:
    """The pair with the largest pattern × weight; ties: the earliest query, then the earliest
    key."""
    values = np.where(valid, pattern * weights[:, None, :], np.float32(-1))
    flat = values.reshape(len(values), -1).argmax(axis=1)
    queries, keys = np.divmod(flat, pattern.shape[2])
    return Places(queries, keys)


def best_effects(
    effects: Float[Tensor, "batch pos head"], predicting: Bool[Tensor, "batch pos"]
) -> tuple[Float32[np.ndarray, "batch head"], Float32[np.ndarray, "batch head"]]:
    """The largest and the smallest direct effect of every context and head over the positions that
    predict an included token; −inf and +inf where there are none."""
    left_out = ~predicting[:, :, None]
    highest = effects.masked_fill(left_out, -torch.inf).amax(dim=1)
    lowest = effects.masked_fill(left_out, torch.inf).amin(dim=1)
    return _host(highest), _host(lowest)


def _host(values: Tensor) -> Any:
    return values.float().cpu().numpy()
