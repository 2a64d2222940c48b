"""From activations of chosen contexts to stored examples."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64

from indexer.measure.selection import Payload
from indexer.store.packing.codec import quantize_in_place

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
        included: positions that count; at least one in each row.
        lengths: tokens of each context, including the BOS.
        context_ids: the contexts.
        window: positions to store around the centre; shorter contexts are stored completely.
        centre: what the window is centred on.

    Of equal peaks or troughs in a context the earliest position counts.
    """
    rows = np.arange(len(activations))
    values, left_out = activations.copy(), ~included
    values[left_out] = -np.inf
    peak_positions = values.argmax(axis=1)
    peaks = values[rows, peak_positions]
    values[left_out] = np.inf
    trough_positions = values.argmin(axis=1)
    troughs = values[rows, trough_positions]
    middle = peak_positions if centre == "peak" else trough_positions
    stored = np.minimum(lengths, window)
    starts = np.clip(middle - window // 2, 0, lengths - stored)
    values[left_out] = 0
    if (starts > 0).any() or window < values.shape[1]:
        positions = starts[:, None] + np.arange(min(window, values.shape[1]))
        values = np.take_along_axis(values, np.minimum(positions, values.shape[1] - 1), axis=1)
        values[positions >= lengths[:, None]] = 0
    integers, scales = quantize_in_place(values)
    quantized = np.zeros((len(rows), window), np.int8)
    quantized[:, : integers.shape[1]] = integers
    return Payload(
        context_ids=context_ids.astype(np.int64),
        peaks=peaks,
        peak_positions=peak_positions.astype(np.uint16),
        troughs=troughs,
        trough_positions=trough_positions.astype(np.uint16),
        starts=starts.astype(np.uint16),
        lengths=stored.astype(np.uint16),
        scales=scales,
        gates=np.full(len(rows), np.nan, np.float32),
        linears=np.full(len(rows), np.nan, np.float32),
        quantized=quantized,
    )
