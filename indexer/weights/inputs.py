"""The tokens whose embeddings, read directly, excite and inhibit a neuron most: the counterpart of
the logit effects at the model's input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64
from torch import Tensor

from indexer.models.loaded import LoadedModel
from indexer.models.units import Reader
from indexer.weights.embedding import embedded
from indexer.weights.rank import best, largest, unpack

_BLOCK = 1 << 23
"""Neuron inputs held at once: 32 MiB in float32. Embeddings take at most a quarter of it."""


@dataclass(frozen=True)
class InputTokens:
    """For each neuron of a layer and one matrix: the tokens that excite and inhibit it most."""

    values: Float32[np.ndarray, "neurons 2*k"]
    """k most exciting, largest first, then k most inhibiting, most negative first."""
    token_ids: Int32[np.ndarray, "neurons 2*k"]
    """Ties: the lower token id first."""


@torch.inference_mode()
def input_tokens(
    model: LoadedModel, reader: Reader, k: int = 10, *, vocab_size: int | None = None
) -> dict[str, InputTokens]:
    """norm(W_E[token]) · w for every neuron of a layer and every token, by part (`in`, `gate`).

    The embedding is what enters the first block for that token, no position added; the norm is the
    layer's own, applied to that embedding alone, its scale and bias included; the bias of the
    projection is left out. So are attention and all earlier layers: the later the layer, the less
    this says about its real input. Only ids below `vocab_size` take part (default: those
    the tokenizer knows). Computed in float32 on the model's device, at most 32 MiB of inputs at
    a time; `k` is cut to the vocabulary. Empty where the embeddings are not known.
    """
    size = model.known_tokens if vocab_size is None else min(vocab_size, model.d_vocab)
    neurons = next(iter(reader.matrices.values())).shape[1]
    step = max(1, _BLOCK // max(neurons, 4 * model.layout.d_model))
    ranked: dict[tuple[str, int], Int64[Tensor, "neurons k"]] = {}
    for first in range(0, size, step):
        stream = embedded(model, torch.arange(first, min(first + step, size)))
        if stream is None or stream.shape[1] != model.layout.d_model:
            return {}
        normed = reader.normed(stream).T
        for part, matrix in reader.matrices.items():
            inputs = matrix.T.float() @ normed
            for sign in (1, -1):
                keys = largest(inputs if sign > 0 else inputs.neg_(), min(k, size)) - first
                known = ranked.get((part, sign))
                merged = keys if known is None else torch.cat([known, keys], dim=1)
                ranked[part, sign] = best(merged, min(k, size))
    return {part: _listed(ranked[part, 1], ranked[part, -1]) for part in reader.matrices}


def _listed(most: Int64[Tensor, "neurons k"], least: Int64[Tensor, "neurons k"]) -> InputTokens:
    values, token_ids = unpack(most)
    low, low_ids = unpack(least)
    both: list[np.ndarray[Any, Any]] = [
        torch.cat(pair, dim=1).cpu().numpy()
        for pair in ((values, -low), (token_ids.int(), low_ids.int()))
    ]
    return InputTokens(*both)
