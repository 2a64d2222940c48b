"""A head's attention pattern over one context, as its rows' largest entries.

Of each row at most 8 keys are kept, those with an attention of 0.005 or more, largest first (ties:
the lower key). What is left out of a row is known: 1 minus what is kept.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt16, UInt32

KEYS_A_ROW = 8
LEAST = 0.005
"""The smallest attention stored."""
UNIT = 65535
"""Attention is stored in multiples of 1/65535: an error of at most 0.0000077."""

_LEVEL = 6


@dataclass(frozen=True)
class SparsePattern:
    """The largest entries of each row of a pattern."""

    counts: Int64[np.ndarray, " pos"]
    """Keys stored of each row."""
    keys: UInt16[np.ndarray, " n"]
    """Row by row, largest attention first."""
    attention: Float64[np.ndarray, " n"]

    @property
    def left_out(self) -> Float64[np.ndarray, " pos"]:
        """The share of each row that is not kept: small entries, and in models with a sink what
        goes there."""
        rows = np.repeat(np.arange(len(self.counts)), self.counts)
        kept = np.bincount(rows, self.attention, len(self.counts))
        return np.maximum(1 - kept, 0.0)

    def rows(self) -> list[list[tuple[int, float]]]:
        """Each row's keys with their attention."""
        pairs = list(zip(self.keys.tolist(), self.attention.tolist(), strict=True))
        ends = np.cumsum(self.counts).tolist()
        starts = [0, *ends[:-1]]
        return [pairs[start:end] for start, end in zip(starts, ends, strict=True)]


def pack_pattern(pattern: Float32[np.ndarray, "pos pos"]) -> bytes:
    """A pattern's largest entries as bytes."""
    (packed,) = packed_entries(largest_entries(pattern)[None])
    return compress(packed)


def largest_entries(pattern: Float32[np.ndarray, "*rows key"]) -> UInt32[np.ndarray, "*rows n"]:
    """The largest entries of each row, at most 8, in any order: attention in units in the upper 16
    bits, 65535 minus the key in the lower ones. Of equal units, the lower keys."""
    keys = pattern.shape[-1]
    scaled = pattern * np.float32(UNIT)
    ranked = np.rint(scaled, out=scaled).astype(np.uint32)
    ranked <<= 16
    ranked |= UNIT - np.arange(keys, dtype=np.uint32)
    # One integer holds both, so that no sort is unstable; a whole sort is faster than a partition.
    ranked.sort(axis=-1)
    best: UInt32[np.ndarray, "*rows n"] = ranked[..., -min(KEYS_A_ROW, keys) :]
    return best


def packed_entries(best: UInt32[np.ndarray, "m pos n"]) -> list[bytes]:
    """The largest entries of patterns, each as bytes that are not compressed."""
    best = np.sort(best, axis=-1)[..., ::-1]
    attention = best >> 16
    kept = attention >= LEAST * UNIT
    counts = kept.sum(axis=-1).astype(np.uint8)
    keys, attention = (UNIT - (best[kept] & UNIT)).astype("<u2"), attention[kept].astype("<u2")
    size = np.array([best.shape[1]], "<u2").tobytes()
    ends = np.cumsum(counts.sum(axis=1, dtype=np.int64)).tolist()
    return [
        b"".join((size, row.tobytes(), keys[start:end].tobytes(), attention[start:end].tobytes()))
        for row, start, end in zip(counts, [0, *ends[:-1]], ends, strict=True)
    ]


def compress(entries: bytes) -> bytes:
    """`packed_entries` as they are stored."""
    return zlib.compress(entries, _LEVEL)


def unpack_pattern(packed: bytes) -> SparsePattern:
    """The entries that `pack_pattern` stored."""
    data = zlib.decompress(packed)
    (size,) = np.frombuffer(data, "<u2", 1)
    counts = np.frombuffer(data, np.uint8, int(size), 2).astype(np.int64)
    total = int(counts.sum())
    start = 2 + int(size)
    keys = np.frombuffer(data, "<u2", total, start)
    attention = np.frombuffer(data, "<u2", total, start + 2 * total) / UNIT
    return SparsePattern(counts, keys, attention)
