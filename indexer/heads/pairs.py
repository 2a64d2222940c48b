"""Pairs of positions (query, key) of one layer's heads on a batch: the best pair of every head and
context, and what examples need of each row.

A pair counts if key < query and both positions are included: a head's attention to itself and to
special tokens is in its scores, and would hide everything else here.
"""

from __future__ import annotations

import itertools
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

_ROWS = 32
"""Rows of a context's patterns that are reduced at once on a CPU."""


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
    """Reduce a layer's patterns to its best pairs. A context is taken in blocks of rows that fit
    the processor's cache."""
    pattern = captured.pattern
    batch, heads, pos, _ = pattern.shape
    on_cpu = pattern.device.type == "cpu"
    mask = torch.from_numpy(included).to(pattern.device).float()
    norms = captured.value_norms.float()
    moved, attention = (np.full((batch, heads, pos), -1, np.float32) for _ in range(2))
    keys = np.zeros((batch, heads, pos), np.int64)
    key_attention = np.zeros((batch, heads, pos), np.float32)
    entries = np.zeros((batch, heads, pos, min(KEYS_A_ROW, pos)), np.uint32)
    each = _ROWS if on_cpu else pos

    def reduce(contexts: slice) -> None:
        for context, start in itertools.product(range(batch)[contexts], range(0, pos, each)):
            end = min(start + each, pos)
            own = pattern[context, :, start:end, :end].float()  # no row looks beyond itself
            at = (context, slice(None), slice(start, end))
            # Keys that do not count become 0, which changes no maximum: attention is never
            # negative.
            counted = own * mask[context, :end]
            counted.diagonal(start, dim1=1, dim2=2).zero_()
            attention[at], keys[at] = _largest(counted)
            counted *= norms[context, :, None, :end]
            moved[at] = _host(counted.amax(dim=-1))
            key_attention[at] = _host(own.diagonal(start, dim1=1, dim2=2))
            entries[at] = entries_of(own)

    in_threads(reduce, even_shares(batch, batch) if on_cpu else [slice(batch)])
    first = _first(included)
    # The first included position has no earlier key.
    rows = (included & (np.arange(pos) > first))[:, None]
    # A row whose attention to all keys that count is 0 has its first one as the largest.
    keys = np.where(rows, np.maximum(keys, first[..., None]), np.arange(pos))
    key_attention = np.where(rows, attention, key_attention)
    lengths = _host(norms)
    return LayerPairs(
        moved=_best(np.where(rows, moved, np.float32(-1)), lengths, pattern, included),
        attention=_best(
            np.where(rows, attention, np.float32(-1)), np.ones_like(lengths), pattern, included
        ),
        keys=keys,
        key_attention=key_attention,
        norms=lengths,
        entries=entries,
    )


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


def _best(
    rows: Float32[np.ndarray, "batch head query"],
    weights: Float32[np.ndarray, "batch head key"],
    pattern: Float[Tensor, "batch head query key"],
    included: Bool[np.ndarray, "batch pos"],
) -> BestPairs:
    """Every context's best pairs by attention × weight, from the best value of each row (−1 where
    no pair counts)."""
    batch, heads, pos = rows.shape
    cells = (np.arange(batch)[:, None], np.arange(heads))
    queries = rows.argmax(axis=2)
    values = rows[(*cells, queries)]
    earlier = included[:, None] & (np.arange(pos) < queries[..., None])
    chosen = _at(pattern, *cells, queries) * weights
    keys = np.where(earlier, chosen, np.float32(-1)).argmax(axis=2)
    none, first = values < 0, _first(included)
    queries, keys = np.where(none, first, queries), np.where(none, first, keys)
    return BestPairs(values, queries, keys, _at(pattern, *cells, queries, keys))


def _at(values: Tensor, *places: Int64[np.ndarray, "..."]) -> Any:
    """Values at places, on the host."""
    return _host(values[tuple(torch.from_numpy(array).to(values.device) for array in places)])


def _largest(
    values: Float[Tensor, "head query key"],
) -> tuple[Float32[np.ndarray, "head query"], Int64[np.ndarray, "head query"]]:
    """Each row's largest value and its place, the first of equals."""
    if values.device.type != "cpu":
        largest, places = values.max(dim=-1)
        return _host(largest), places.cpu().numpy()
    array = values.numpy()  # torch's own is slower on a CPU
    at = array.argmax(axis=-1)
    largest_of_row: Float32[np.ndarray, "head query"] = np.take_along_axis(
        array, at[..., None], axis=-1
    )[..., 0]
    return largest_of_row, at


def _first(included: Bool[np.ndarray, "batch pos"]) -> Int64[np.ndarray, "batch 1"]:
    """Each context's first included position, or 0."""
    first: Int64[np.ndarray, "batch 1"] = included.argmax(axis=1, keepdims=True)
    return first


def _host(values: Tensor) -> Any:
    return values.float().cpu().numpy()
