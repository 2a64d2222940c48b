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
_SPARE = 3
"""Neurons beside those named whose correlations are computed exactly."""
_BLOCK = 1 << 26
"""Correlations held at once: 256 MiB, for layers so wide that their state takes as much."""
_ROWS = 256
"""Neurons of which anything is in float64 at once, beside their peaks."""


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

    On `device` (default: the CPU), at most about `block` correlations at once. All are computed in
    float32, which tells which may be among the highest; these in float64, and they are ranked as
    float32: neurons that are equal then tie, whatever the rounding.
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
            found = _correlations(single, start, min(start + step, len(varying)))
            best, others = _highest(found, standard, start, k)
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
    single: Float[Tensor, "neurons contexts"], start: int, end: int
) -> Float[Tensor, "rows neurons"]:
    """Correlations of rows start…end with all, in float32; with itself −inf. Where that is all
    with all, each pair is computed once."""
    whole = end - start == len(single)
    found = torch.empty((end - start, len(single)), device=single.device)
    for first in range(start, end, _ROWS):
        last, left = min(first + _ROWS, end), first if whole else 0
        some = found[first - start : last - start, left:]
        torch.matmul(single[first:last], single[left:].T, out=some)
        if whole:
            found[last:, first:last] = some[:, last - first :].T
    own = torch.arange(end - start, device=found.device)
    found[own, start + own] = -torch.inf
    return found


def _highest(
    found: Float[Tensor, "rows neurons"],
    standard: Float[Tensor, "neurons contexts"],
    start: int,
    k: int,
) -> tuple[Float32[np.ndarray, "rows k"], Int64[np.ndarray, "rows k"]]:
    """The k highest correlations of rows start… with others, and with which."""
    neurons, contexts = standard.shape
    near, others = found.topk(min(k + _SPARE, neurons - 1), dim=1)
    best = torch.empty_like(near)
    for first in range(0, len(found), _ROWS):
        mine = slice(first, first + _ROWS)
        rows = standard[start + first : start + min(first + _ROWS, len(found))]
        best[mine] = _rounded(torch.bmm(standard[others[mine]], rows[:, :, None])[:, :, 0])
    if others.shape[1] < neurons - 1:
        # A dot product of unit vectors in float32 is off by at most a rounding a term, whatever
        # their order, and one for each factor (Higham, Accuracy and Stability, 3.1). Where the
        # last of those near is not further than that below the k-th, all are computed.
        off = 2 * (contexts + 4) * 2.0**-24 + 2.0**-22
        unsure = (near[:, -1] >= near[:, k - 1] - off).nonzero()[:, 0]
        for some in torch.split(unsure, _ROWS):
            all_of_them = _rounded(standard[start + some] @ standard.T)
            all_of_them[torch.arange(len(some), device=some.device), start + some] = -torch.inf
            order = all_of_them.sort(dim=1, descending=True, stable=True)
            best[some] = order.values[:, : best.shape[1]]
            others[some] = order.indices[:, : best.shape[1]]
    others, by_index = others.sort(dim=1)
    best, by_value = best.gather(1, by_index).sort(dim=1, descending=True, stable=True)
    others = others.gather(1, by_value)
    return best[:, :k].cpu().numpy(), others[:, :k].cpu().numpy()


def _rounded(products: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Correlations as they are ranked and kept."""
    return products.clamp_(-1, 1).float()
