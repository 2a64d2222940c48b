"""Pairs of positions (query, key) of one layer's heads on a batch: the best pair of every head and
context, and what examples need of each row.

A pair counts if key < query and both positions are included: a head's attention to itself and to
special tokens is in its scores, and would hide everything else here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt32
from torch import Tensor

from indexer.captured import CapturedHeads
from indexer.measure.threads import even_shares, in_threads
from indexer.store.packing.pattern import KEYS_A_ROW, UNIT, largest_entries

Array = np.ndarray[Any, Any]


def pairs_of(included: Bool[np.ndarray, "batch pos"]) -> Int64[np.ndarray, " batch"]:
    """How many pairs of each context count."""
    positions = included.sum(axis=1).astype(np.int64)
    counts: Int64[np.ndarray, " batch"] = positions * (positions - 1) // 2
    return counts


@dataclass(frozen=True)
class BestPairs:
    """The best pair of every context and head by one ranking: the largest value; ties: the earliest
    query, then the earliest key. Where no pair counts, the value is −1, and query and key are the
    context's first included position."""

    values: Float32[np.ndarray, "batch head"]
    queries: Int64[np.ndarray, "batch head"]
    keys: Int64[np.ndarray, "batch head"]
    attention: Float32[np.ndarray, "batch head"]


@dataclass(frozen=True)
class LayerPairs:
    """One layer's heads on one batch, on the host."""

    moved: BestPairs
    """By attention × ‖v_k W_O‖."""
    attention: BestPairs
    """By attention alone."""
    keys: Int64[np.ndarray, "batch head query"]
    """The key of each row that counts and is attended to most; the query itself if none counts."""
    key_attention: Float32[np.ndarray, "batch head query"]
    """The attention to that key."""
    norms: Float32[np.ndarray, "batch head key"]
    """‖v_k W_O‖."""
    entries: UInt32[np.ndarray, "batch head query n"]
    """Each row's largest entries, as `indexer.store.packing.pattern` packs them."""


def layer_pairs(captured: CapturedHeads, included: Bool[np.ndarray, "batch pos"]) -> LayerPairs:
    """Reduce a layer's patterns, context by context, each while it is in the cache."""
    pattern = captured.pattern
    batch, heads, pos, _ = pattern.shape
    mask = torch.from_numpy(included).to(pattern.device)
    norms = captured.value_norms.float()
    moved, attention = (_no_pairs(batch, heads) for _ in range(2))
    keys = np.zeros((batch, heads, pos), np.int64)
    key_attention = np.zeros((batch, heads, pos), np.float32)
    entries = np.zeros((batch, heads, pos, min(KEYS_A_ROW, pos)), np.uint32)

    def reduce(contexts: slice) -> None:
        counted = torch.empty((heads, pos, pos), dtype=torch.float32, device=pattern.device)
        for context in range(batch)[contexts]:
            own = pattern[context].float()
            rows = included[context].copy()
            rows[: _first(rows) + 1] = False  # the first included position has no earlier key
            diagonal = _host(own.diagonal(dim1=1, dim2=2))

            # Keys that do not count become 0, which changes no maximum: attention is never
            # negative.
            torch.mul(own, norms[context, :, None] * mask[context], out=counted)
            counted.diagonal(dim1=1, dim2=2).zero_()
            best = np.where(rows, _host(counted.amax(dim=-1)), np.float32(-1))
            _put(moved, context, best, counted, included[context], own)

            torch.mul(own, mask[context], out=counted)
            counted.diagonal(dim1=1, dim2=2).zero_()
            values, places = _largest(counted)
            best = np.where(rows, values, np.float32(-1))
            _put(attention, context, best, counted, included[context], own)

            # A row whose attention to all keys that count is 0 has its first one as the largest.
            places = np.maximum(places, _first(included[context]))
            keys[context] = np.where(rows, places, np.arange(pos))
            key_attention[context] = np.where(rows, values, diagonal)
            entries[context] = entries_of(own)

    on_cpu = pattern.device.type == "cpu"
    in_threads(reduce, even_shares(batch, batch) if on_cpu else [slice(batch)])
    return LayerPairs(moved, attention, keys, key_attention, _host(norms), entries)


def entries_of(pattern: Float[Tensor, "*rows key"]) -> UInt32[np.ndarray, "*rows n"]:
    """`largest_entries`, computed where the pattern is."""
    if pattern.device.type == "cpu":
        return largest_entries(pattern.numpy())
    return _entries_by_topk(pattern)


def _entries_by_topk(pattern: Float[Tensor, "*rows key"]) -> UInt32[np.ndarray, "*rows n"]:
    keys = pattern.shape[-1]
    ranked = (pattern * UNIT).round().to(torch.int64) << 16
    ranked |= UNIT - torch.arange(keys, device=pattern.device)
    best: Array = ranked.topk(min(KEYS_A_ROW, keys), dim=-1).values.cpu().numpy()
    return best.astype(np.uint32)


def best_effects(
    effects: Float32[np.ndarray, "batch head pos"], predicting: Bool[np.ndarray, "batch pos"]
) -> tuple[Float32[np.ndarray, "batch head"], Int64[np.ndarray, "batch head"]]:
    """The largest direct effect of every context and head over the positions that predict an
    included token, and its position, the earliest of equals; −inf where there are none."""
    counted = np.where(predicting[:, None], effects, np.float32(-np.inf))
    queries = counted.argmax(axis=2)
    return np.take_along_axis(counted, queries[:, :, None], axis=2)[:, :, 0], queries


def _no_pairs(batch: int, heads: int) -> BestPairs:
    values, attention = np.full((2, batch, heads), -1, np.float32)
    queries, keys = np.zeros((2, batch, heads), np.int64)
    return BestPairs(values, queries, keys, attention)


def _put(
    best: BestPairs,
    context: int,
    rows: Float32[np.ndarray, "head query"],
    counted: Float[Tensor, "head query key"],
    included: Bool[np.ndarray, " pos"],
    pattern: Float[Tensor, "head query key"],
) -> None:
    """Fill in a context's best pairs, from the best value of each row (−1 where no pair counts)."""
    heads = np.arange(len(rows))
    queries = rows.argmax(axis=1)
    best.values[context] = rows[heads, queries]
    best.queries[context] = queries
    chosen = _host(counted[torch.from_numpy(heads), torch.from_numpy(queries)])
    earlier = included & (np.arange(len(included)) < queries[:, None])
    none = best.values[context] < 0
    keys = np.where(earlier, chosen, np.float32(-1)).argmax(axis=1)
    first = _first(included)
    best.queries[context, none] = first
    keys[none] = first
    best.keys[context] = keys
    where = (torch.from_numpy(array) for array in (heads, best.queries[context], keys))
    best.attention[context] = _host(pattern[tuple(where)])


def _largest(
    values: Float[Tensor, "head query key"],
) -> tuple[Float32[np.ndarray, "head query"], Int64[np.ndarray, "head query"]]:
    """Each row's largest value and its place, the first of equals."""
    if values.device.type != "cpu":
        largest, places = values.max(dim=-1)
        return _host(largest), places.cpu().numpy()
    array = values.numpy()  # torch's own is slower on a CPU
    at = array.argmax(axis=-1)
    return np.take_along_axis(array, at[..., None], axis=-1)[..., 0], at


def _first(included: Bool[np.ndarray, " pos"]) -> int:
    """The first included position, or 0."""
    return int(included.argmax())


def _host(values: Tensor) -> Any:
    return values.float().cpu().numpy()
