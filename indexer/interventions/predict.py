"""The next token that a model predicts, at the end of each row of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from indexer.errors import NeurariumError
from indexer.interventions.hooks import last_position_only
from indexer.models.failures import out_of_memory
from indexer.models.loaded import LoadedModel
from indexer.weights.embedding import unembedding_module

AS_IS = 0
"""The row of a batch in which nothing is changed."""


@dataclass(frozen=True)
class Predicted:
    """The most likely next tokens, most likely first."""

    token_ids: tuple[int, ...]
    probabilities: tuple[float, ...]
    as_is: tuple[float, ...]
    """The same tokens' probabilities in the row in which nothing is changed."""
    divergence: float
    """Kullback–Leibler divergence from the prediction of that row, Σ p ln(p ÷ q) with p that row's
    probabilities, in nats."""


def last_log_probabilities(
    model: LoadedModel, tokens: Int[Tensor, "rows pos"]
) -> Float64[Tensor, "rows d_vocab"]:
    """The log-probabilities of the token after each row. Raises `NeurariumError` when memory runs
    out, or where the unembedding is not known."""
    with last_position_only(unembedding_module(model)):
        try:
            out = model.root(input_ids=tokens, attention_mask=torch.ones_like(tokens))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            rows, length = tokens.shape
            raise NeurariumError(
                f"There is not enough memory on {model.device} for {rows} × {length} tokens "
                f"of {model.source.label!r}: try a shorter text."
            ) from error
    logits: Tensor = getattr(out, "logits", out)[:, -1]
    return logits.double().log_softmax(-1)  # small divergences need the digits


def predicted(log_p: Float64[Tensor, "rows d_vocab"], row: int, k: int) -> Predicted:
    """The `k` most likely tokens of a row of log-probabilities (nats), compared with the unchanged
    row `AS_IS`."""
    best, ids = log_p[row].topk(min(k, log_p.shape[1]))
    p = log_p[AS_IS].exp()
    # Where p is 0 nothing is added, whatever the other prediction is: 0 × −inf would be NaN.
    terms = torch.where(p > 0, p * (log_p[AS_IS] - log_p[row]), 0.0)
    return Predicted(
        token_ids=tuple(ids.tolist()),
        probabilities=tuple(best.exp().tolist()),
        as_is=tuple(p[ids].tolist()),
        divergence=max(0.0, float(terms.sum())),
    )
