"""Logit effects: what a neuron's write vector adds to every token's logit, the tokens it raises and
lowers most, and the distribution of its effects. This is the direct path of Elhage et al. 2021 ("A
Mathematical Framework for Transformer Circuits").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int32
from torch import Tensor

from indexer.models.loaded import LoadedModel
from indexer.weights.embedding import through_final_norm, unembedding
from indexer.weights.rank import largest, unpack
from indexer.weights.units import write_vectors

BINS = 41
"""Of the histogram of a neuron's effects."""

_BLOCK = 1 << 24
"""Logits held at once: 64 MiB in float32."""
_CHUNK = 1 << 20
"""Logits ranked and counted at once: few enough to stay in a processor's cache."""
_NEAR = 2.0**-14
"""How near to an edge, in bins, float32 may choose the wrong bin: its error is below 2^-16."""


@dataclass(frozen=True)
class LogitEffects:
    """For each neuron of a layer, the tokens whose logits it raises and lowers most, and the
    distribution of its effects on all of them."""

    top_values: Float32[np.ndarray, "neurons k"]
    """Largest first; ties: the lower token id first."""
    top_ids: Int32[np.ndarray, "neurons k"]
    bottom_values: Float32[np.ndarray, "neurons k"]
    """Most negative first; ties: the lower token id first."""
    bottom_ids: Int32[np.ndarray, "neurons k"]
    histogram_range: Float64[np.ndarray, "neurons 2"]
    """Lowest effect and width of a bin, of 41 bins from the lowest to the highest."""
    histogram_counts: Int32[np.ndarray, "neurons 41"]
    """As `numpy.histogram` counts in float64: a bin includes its lower edge, the last both edges.
    Where all effects are equal, all are in the first bin, of width 0."""
    mean: Float64[np.ndarray, " neurons"]
    std: Float64[np.ndarray, " neurons"]
    """Population standard deviation."""
    kurtosis: Float64[np.ndarray, " neurons"]
    """Excess kurtosis, m4 / m2² − 3 (population): 0 for a Gaussian; NaN where all are equal."""


@torch.inference_mode()
def logit_effects(
    model: LoadedModel,
    layer: int,
    k: int = 15,
    *,
    vocab_size: int | None = None,
    units: slice = slice(None),
) -> LogitEffects:
    """What one unit of each neuron's activation adds directly to the logits, up to the final norm's
    scale, which depends on the input.

    The write vector, minus its mean if the final norm centres (LayerNorm), times the final norm's
    weight (1 + weight in Gemma), @ W_U, times the architecture's constant scale of logits, if any
    (Cohere, Granite). Biases and a final softcap are left out. Only ids below `vocab_size` take
    part (default: those the tokenizer knows; the rest of the unembedding is padding). Computed in
    float32 on the model's device, at most 64 MiB of logits at a time; `k` is cut to the vocabulary.
    `units` chooses some of the layer's.
    Raises `NeurariumError` where the unembedding or the write vectors are not known.
    """
    size = model.known_tokens if vocab_size is None else min(vocab_size, model.d_vocab)
    k = min(k, size)
    written = write_vectors(model, layer)[units]
    directions = through_final_norm(model, written) * model.layout.logit_scale()
    weight = unembedding(model)[:size]
    parts = [_facts(chunk, k) for block in _products(directions, weight) for chunk in block]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return LogitEffects(*columns)


def _products(
    directions: Float[Tensor, "neurons d"], weight: Float[Tensor, "size d"]
) -> Iterator[tuple[Float[Tensor, "n size"], ...]]:
    """All effects, in blocks of neurons cut into chunks. Each block overwrites the last."""
    size = weight.shape[0]
    rows = min(max(1, _BLOCK // size), directions.shape[0])
    buffer = torch.empty((rows, size), device=directions.device)
    tokens = size if weight.dtype == torch.float32 else max(1, _CHUNK // weight.shape[1])
    for rows_of in torch.split(directions, rows):
        block = buffer[: len(rows_of)]
        for first in range(0, size, tokens):
            read = weight[first : first + tokens].float()
            torch.mm(rows_of, read.T, out=block[:, first : first + tokens])
        yield torch.split(block, max(1, _CHUNK // size))


def _facts(effects: Float[Tensor, "n size"], k: int) -> list[np.ndarray[Any, Any]]:
    """The fields of `LogitEffects` for some neurons, in order. Changes `effects`' signs."""
    spread = (*_histogram(effects), *_moments(effects))
    top_values, top_ids = unpack(largest(effects, k))
    bottom_values, bottom_ids = unpack(largest(effects.neg_(), k))
    ranked = (top_values, top_ids.int(), -bottom_values, bottom_ids.int())
    return [column.cpu().numpy() for column in (*ranked, *spread)]


def _histogram(
    effects: Float[Tensor, "n size"],
) -> tuple[Float[Tensor, "n 2"], Int32[Tensor, "n 41"]]:
    """Each row's range and counts. Bins are computed in float32, near an edge in float64."""
    rows = effects.shape[0]
    low = effects.amin(dim=1, keepdim=True)
    width = (effects.amax(dim=1, keepdim=True).double() - low) / BINS
    per_unit = (1 / width).float()
    usable = (per_unit > 0) & per_unit.isfinite()
    place = (effects - low).mul_(torch.where(usable, per_unit, 0))
    bins = place.int().clamp_(max=BINS - 1)
    near = place.sub_(place.round()).abs_() < _NEAR
    row, column = (near | ~usable).nonzero(as_tuple=True)
    bins[row, column] = _exact_bins(effects[row, column], low[row, 0], width[row, 0])
    bins += torch.arange(rows, dtype=torch.int32, device=bins.device)[:, None] * BINS
    counts = torch.bincount(bins.flatten(), minlength=rows * BINS).view(rows, BINS)
    return torch.cat([low.double(), width], dim=1), counts.int()


def _exact_bins(
    values: Float[Tensor, " n"], low: Float[Tensor, " n"], width: Float[Tensor, " n"]
) -> Int32[Tensor, " n"]:
    """The bins of single values: edge j is low + j·width in float64."""
    x, start = values.double(), low.double()
    guess = torch.where(width > 0, (x - start) / width, 0).floor().clamp_(0, BINS - 1)
    guess -= (x < start + guess * width).double()
    guess += ((x >= start + (guess + 1) * width) & (guess < BINS - 1) & (width > 0)).double()
    return guess.int()


def _moments(
    effects: Float[Tensor, "n size"],
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " n"], Float64[Tensor, " n"]]:
    """Mean, population standard deviation and excess kurtosis (m4 ÷ m2² − 3) of each row, computed
    in units of its range so that powers neither under- nor overflow. The kurtosis is NaN where all
    effects are equal."""
    size = effects.shape[1]
    mean = effects.sum(dim=1, dtype=torch.float64) / size
    spread = effects.amax(dim=1) - effects.amin(dim=1)
    varies = spread > 0
    squares = effects - mean.float()[:, None]
    squares.div_(torch.where(varies, spread, 1)[:, None]).square_()
    second = squares.sum(dim=1).double() / size
    fourth = squares.square_().sum(dim=1).double() / size
    kurtosis = torch.where(varies, fourth / second.square() - 3, torch.nan)
    return mean, second.sqrt() * spread, kurtosis
