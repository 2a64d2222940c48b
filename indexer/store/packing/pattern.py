"""A head's attention pattern over one context, as its rows' largest entries.

Of each row at most 8 keys are kept, those with an attention of 0.005 or more, largest first (ties:
the lower key). What is left out of a row is known: 1 minus what is kept.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt16

KEYS_A_ROW = 8
LEAST = 0.005
"""The smallest attention kept."""
UNIT = 65535
"""Attention is stored in multiples of 1/65535: an error of at most 0.0000077."""

_LEVEL = 6


@dataclass(frozen=True)
class SparsePattern:
    """The largest entries of each row of a pattern."""

    counts: Int64[np.ndarray, " pos"]
    """Keys kept of each row."""
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
    size = len(pattern)
    units = np.rint(pattern.astype(np.float64) * UNIT).astype(np.int64)
    # Larger attention first, then the lower key: one integer holds both, so no sort is unstable.
    ranked = (units << 16) | (UNIT - np.arange(pattern.shape[1]))
    width = min(KEYS_A_ROW, pattern.shape[1])
    best = np.partition(ranked, pattern.shape[1] - width, axis=1)[:, -width:]
    best = -np.sort(-best, axis=1)
    attention, keys = best >> 16, UNIT - (best & UNIT)
    kept = attention >= LEAST * UNIT
    parts: tuple[np.ndarray[Any, Any], ...] = (
        np.array([size], "<u2"),
        kept.sum(axis=1).astype(np.uint8),
        keys[kept].astype("<u2"),
        attention[kept].astype("<u2"),
    )
    return zlib.compress(b"".join(part.tobytes() for part in parts), _LEVEL)


def unpack_pattern(packed: bytes) -> SparsePattern:
    """The entries that `pack_pattern` kept."""
    data = zlib.decompress(packed)
    (size,) = np.frombuffer(data, "<u2", 1)
    counts = np.frombuffer(data, np.uint8, int(size), 2).astype(np.int64)
    total = int(counts.sum())
    start = 2 + int(size)
    keys = np.frombuffer(data, "<u2", total, start)
    attention = np.frombuffer(data, "<u2", total, start + 2 * total) / UNIT
    return SparsePattern(counts, keys, attention)
