"""Neurons of a layer that fire together: correlations of their peaks over the sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from torch import Tensor

TOGETHER = 5
"""Neurons listed for each neuron, at most."""
_SPARE = 3
"""Further neurons whose correlations are computed exactly."""
_BLOCK = 1 << 26
"""Correlations held at once: 256 MiB, which the scan of so wide a layer takes as well."""
_ROWS = 256
"""Neurons computed in float64 at once."""


@dataclass(frozen=True)
class Together:
    """For each neuron of a layer, the neurons with the most correlated peaks.

    Row n has `counts[n]` entries; the rest of it is undefined. Neurons with constant peaks have no
    correlations: their rows are empty, and no row lists them.
    """

    counts: Int64[np.ndarray, " neurons"]
    neurons: Int32[np.ndarray, "neurons k"]
    """Indices in the layer, the highest correlation first; ties: the lower index first."""
    values: Float32[np.ndarray, "neurons k"]


def together(
    peaks: Float32[np.ndarray, "neurons contexts"],
    k: int = TOGETHER,
    device: torch.device | None = None,
    block: int = _BLOCK,
) -> Together:
    """The k highest Pearson correlations of each neuron's peaks with another's.

    Computed on `device` (default: the CPU), at most about `block` correlations at once: all in
    float32 to find candidates for the highest, and the candidates again in float64. They are ranked
    after rounding to float32, so that equal neurons tie.
    """
    varying = np.flatnonzero(peaks.max(axis=1) != peaks.min(axis=1))
    k = min(k, max(len(varying) - 1, 0))
    counts = np.zeros(len(peaks), np.int64)
    neurons = np.zeros((len(peaks), k), np.int32)
    values = np.zeros((len(peaks), k), np.float32)
    if k:
        counts[varying] = k
        standard = _standardised(peaks[varying], device or torch.device("cpu"))
        single = standard.float()
        step = max(1, block // len(varying))
        for start in range(0, len(varying), step):
            correlations = _correlations(single, start, min(start + step, len(varying)))
            best, others = _highest(correlations, standard, start, k)
            rows = varying[start : start + step]
            neurons[rows], values[rows] = varying[others], best
    return Together(counts, neurons, values)


def _standardised(
    peaks: Float32[np.ndarray, "neurons contexts"], device: torch.device
) -> Float[Tensor, "neurons contexts"]:
    """Rows with mean 0 and length 1, so that dot products are correlations."""
    if device.type == "mps":  # it has no float64
        device = torch.device("cpu")
    rows = torch.from_numpy(peaks).to(device).double()
    rows -= rows.mean(dim=1, keepdim=True)
    rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows


def _correlations(
    single: Float[Tensor, "neurons contexts"], start: int, end: int
) -> Float[Tensor, "rows neurons"]:
    """Correlations of rows start…end − 1 with all rows, in float32; −inf with itself. If these are
    all rows, each pair is computed once."""
    square = end - start == len(single)
    similarities = torch.empty((end - start, len(single)), device=single.device)
    for first in range(start, end, _ROWS):
        last, left = min(first + _ROWS, end), first if square else 0
        block = similarities[first - start : last - start, left:]
        torch.matmul(single[first:last], single[left:].T, out=block)
        if square:
            similarities[last:, first:last] = block[:, last - first :].T
    own = torch.arange(end - start, device=similarities.device)
    similarities[own, start + own] = -torch.inf
    return similarities


def _highest(
    similarities: Float[Tensor, "rows neurons"],
    standard: Float[Tensor, "neurons contexts"],
    start: int,
    k: int,
) -> tuple[Float32[np.ndarray, "rows k"], Int64[np.ndarray, "rows k"]]:
    """The k highest correlations of the rows from `start` on, and the rows they are with."""
    neurons, contexts = standard.shape
    near, others = similarities.topk(min(k + _SPARE, neurons - 1), dim=1)
    best = torch.empty_like(near)
    for first in range(0, len(similarities), _ROWS):
        block = slice(first, first + _ROWS)
        rows = standard[start + first : start + min(first + _ROWS, len(similarities))]
        best[block] = _rounded(torch.bmm(standard[others[block]], rows[:, :, None])[:, :, 0])
    if others.shape[1] < neurons - 1:
        # A dot product of unit vectors in float32 is off by at most one rounding per term, whatever
        # their order, and one per factor (Higham, Accuracy and Stability, 3.1). Rows whose last
        # candidate is within that error of the k-th are computed completely.
        off = 2 * (contexts + 4) * 2.0**-24 + 2.0**-22
        unsure = (near[:, -1] >= near[:, k - 1] - off).nonzero()[:, 0]
        for rows in torch.split(unsure, _ROWS):
            exact = _rounded(standard[start + rows] @ standard.T)
            exact[torch.arange(len(rows), device=rows.device), start + rows] = -torch.inf
            order = exact.sort(dim=1, descending=True, stable=True)
            best[rows] = order.values[:, : best.shape[1]]
            others[rows] = order.indices[:, : best.shape[1]]
    others, by_index = others.sort(dim=1)
    best, by_value = best.gather(1, by_index).sort(dim=1, descending=True, stable=True)
    others = others.gather(1, by_value)
    return best[:, :k].cpu().numpy(), others[:, :k].cpu().numpy()


def _rounded(products: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Correlations as they are ranked and stored."""
    return products.clamp_(-1, 1).float()
