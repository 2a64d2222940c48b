"""Which neurons of a layer fire together: correlations of their peaks over the sample. Pure but
for torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from torch import Tensor

TOGETHER = 5
"""Neurons named for each neuron, at most."""
_BLOCK = 1 << 24
"""Correlations held at once: 64 MiB in float32, and as much again while they are ranked."""
_ROWS = 256
"""Neurons whose correlations are in float64 at once."""


@dataclass(frozen=True)
class Together:
    """For each neuron of a layer, the others whose peaks go up and down with its own.

    Neurons whose peaks never vary have no correlation: they have no others and are none. So row n
    has `counts[n]` entries, the same for all neurons that vary; what follows them means nothing.
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

    Computed in float64 on `device` (default: the CPU), at most about `block` correlations at once,
    and ranked as float32: neurons that are equal then tie, whatever the rounding.
    """
    varying = np.flatnonzero(peaks.max(axis=1) != peaks.min(axis=1))
    k = min(k, max(len(varying) - 1, 0))
    counts = np.zeros(len(peaks), np.int64)
    neurons = np.zeros((len(peaks), k), np.int32)
    values = np.zeros((len(peaks), k), np.float32)
    if k:
        counts[varying] = k
        standard = _standardised(peaks[varying], device or torch.device("cpu"))
        step = max(1, block // len(varying))
        for start in range(0, len(varying), step):
            found = _correlations(standard, start, min(start + step, len(varying)))
            best, others = _highest(found, start, k)
            rows = varying[start : start + step]
            neurons[rows], values[rows] = varying[others], best
    return Together(counts, neurons, values)


def _standardised(
    peaks: Float32[np.ndarray, "neurons contexts"], device: torch.device
) -> Float[Tensor, "neurons contexts"]:
    """Rows of mean 0 and length 1, so that a dot product is a correlation."""
    if device.type == "mps":  # it has no float64
        device = torch.device("cpu")
    rows = torch.from_numpy(peaks).to(device).double()
    rows -= rows.mean(dim=1, keepdim=True)
    rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows


def _correlations(
    standard: Float[Tensor, "neurons contexts"], start: int, end: int
) -> Float[Tensor, "rows neurons"]:
    """Correlations of rows start…end with all, as float32. Where that is all with all, each pair
    is computed once."""
    whole = end - start == len(standard)
    found = torch.empty((end - start, len(standard)), device=standard.device)
    for first in range(start, end, _ROWS):
        last, left = min(first + _ROWS, end), first if whole else 0
        some = (standard[first:last] @ standard[left:].T).clamp_(-1, 1).float()
        found[first - start : last - start, left:] = some
        if whole:
            found[last:, first:last] = some[:, last - first :].T
    return found


def _highest(
    found: Float[Tensor, "rows neurons"], start: int, k: int
) -> tuple[Float32[np.ndarray, "rows k"], Int64[np.ndarray, "rows k"]]:
    """The k highest correlations of rows start… with others, and with which. Spoils `found`."""
    own = torch.arange(len(found), device=found.device)
    found[own, start + own] = -torch.inf
    best, others = found.topk(k + 1, dim=1)
    # A tie at the last place is settled by the index, which topk does not look at.
    tied = (best[:, k - 1] == best[:, k]).nonzero()[:, 0]
    best, others = best[:, :k].clone(), others[:, :k].clone()
    if len(tied):
        order = found[tied].sort(dim=1, descending=True, stable=True)
        best[tied], others[tied] = order.values[:, :k], order.indices[:, :k]
    others, by_index = others.sort(dim=1)
    best, by_value = best.gather(1, by_index).sort(dim=1, descending=True, stable=True)
    return best.cpu().numpy(), others.gather(1, by_value).cpu().numpy()
