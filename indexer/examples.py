"""Activations of chosen contexts → what is kept of an example. Pure."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64

from indexer.selection import Payload
from indexer.store.codec import quantize

Centre = Literal["peak", "trough"]


def describe(
    activations: Float32[np.ndarray, "m pos"],
    included: Bool[np.ndarray, "m pos"],
    lengths: Int64[np.ndarray, " m"],
    context_ids: Int64[np.ndarray, " m"],
    window: int,
    centre: Centre = "peak",
) -> Payload:
    """Peaks, troughs and the stored window of m (context, neuron) pairs.

    Args:
        activations: of the whole contexts, padded on the right.
        included: positions that count; at least one a row.
        lengths: tokens of each context, BOS counted.
        context_ids: the contexts.
        window: positions to keep round the centre; contexts that are shorter are kept whole.
        centre: what the window is laid round.

    Ties of a peak or a trough go to the earliest position.
    """
    rows = np.arange(len(activations))
    highs = np.where(included, activations, np.float32(-np.inf))
    peak_positions = highs.argmax(axis=1)
    lows = np.where(included, activations, np.float32(np.inf))
    trough_positions = lows.argmin(axis=1)
    middle = peak_positions if centre == "peak" else trough_positions
    kept = np.minimum(lengths, window)
    starts = np.clip(middle - window // 2, 0, lengths - kept)
    if (starts > 0).any() or window < activations.shape[1]:
        positions = starts[:, None] + np.arange(min(window, activations.shape[1]))
        inside = np.minimum(positions, activations.shape[1] - 1)
        activations = np.take_along_axis(activations, inside, axis=1)
        included = np.take_along_axis(included, inside, axis=1) & (positions < lengths[:, None])
    integers, scales = quantize(activations, included)
    quantized = np.zeros((len(rows), window), np.int8)
    quantized[:, : integers.shape[1]] = integers
    return Payload(
        context_ids=context_ids.astype(np.int64),
        peaks=highs[rows, peak_positions],
        peak_positions=peak_positions.astype(np.uint16),
        troughs=lows[rows, trough_positions],
        trough_positions=trough_positions.astype(np.uint16),
        starts=starts.astype(np.uint16),
        lengths=kept.astype(np.uint16),
        scales=scales,
        gates=np.full(len(rows), np.nan, np.float32),
        linears=np.full(len(rows), np.nan, np.float32),
        quantized=quantized,
    )
