"""Several units ablated at chosen positions of one text, and what that changes at every position.

`ablate` does this for one unit, at all positions, and looks at the end of the text alone. Nothing
in this module may be called by several threads at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from indexer.errors import NeurariumError
from indexer.interventions.set_units import Setting, units_set
from indexer.models.failures import out_of_memory
from indexer.models.loaded import LoadedModel
from indexer.weights.embedding import unembedding_module

BASELINE, ZERO, MEAN = 0, 1, 2
"""Rows of the one forward pass in which units are left alone, set to 0 and set to their means."""
ROWS = 3
_CHUNK_BYTES = 128 << 20
"""About the most memory for the log-probabilities of several positions at once."""


@dataclass(frozen=True)
class Ablated:
    """A unit, and the mean activation that mean ablation sets it to."""

    layer: int
    unit: int
    mean: float


@dataclass(frozen=True)
class PositionEffects:
    """What an ablation changes at every position of a text. Rows: `BASELINE`, `ZERO`, `MEAN`."""

    losses: Float64[np.ndarray, "3 pos"]
    """How badly each token is predicted, in nats: −log of its probability; NaN at the first
    position, which nothing predicts."""
    divergences: Float64[np.ndarray, "3 pos"]
    """Kullback–Leibler divergence of the prediction after each token from the baseline, in nats:
    Σ p ln(p ÷ q), with p the baseline's probabilities."""
    likeliest: Int64[np.ndarray, "3 pos"]
    """The most likely next token after each token."""
    probabilities: Float64[np.ndarray, "3 pos"]
    """Its probability."""


@torch.inference_mode()
def position_effects(
    model: LoadedModel, units: Sequence[Ablated], token_ids: list[int], positions: Sequence[int]
) -> PositionEffects:
    """The predictions after every token with `units` left alone, all set to 0, and all set to their
    means, at `positions` only. Units of one layer are set together: none is set by what ablating
    another changed.

    One forward pass has all three as rows; the logits are computed some positions at a time, since
    those of a whole text would take most memory. Raises `NeurariumError` when memory runs out,
    where the unembedding is not known, or where a unit cannot be set.
    """
    tokens = torch.tensor([token_ids] * ROWS, device=model.device)
    head = unembedding_module(model)
    stream: list[Tensor] = []
    with contextlib.ExitStack() as hooks:
        for layer in sorted({unit.layer for unit in units}):
            of_layer = [unit for unit in units if unit.layer == layer]
            rows = {
                ZERO: [Setting(unit.unit, 0.0) for unit in of_layer],
                MEAN: [Setting(unit.unit, unit.mean) for unit in of_layer],
            }
            shape = (ROWS, tokens.shape[1])
            hooks.enter_context(units_set(model, layer, rows, positions, shape))
        hooks.enter_context(_keeping_input(head, stream))
        try:
            model.root(input_ids=tokens, attention_mask=torch.ones_like(tokens))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise NeurariumError(
                f"There is not enough memory on {model.device} for {ROWS} × {tokens.shape[1]} "
                f"tokens of {model.source.label!r}: try a shorter text."
            ) from error
    transform = model.layout.adapter.apply_output_logits_transform
    return _measured(stream[0], lambda x: transform(head(x)), tokens[0])


def _measured(
    stream: Float[Tensor, "3 pos d_model"], logits: Callable[[Tensor], Tensor], tokens: Tensor
) -> PositionEffects:
    """The effects, from what the unembedding is given."""
    n = stream.shape[1]
    losses = np.full((ROWS, n), np.nan)
    divergences, probabilities = np.zeros((ROWS, n)), np.zeros((ROWS, n))
    likeliest = np.zeros((ROWS, n), dtype=np.int64)
    width = logits(stream[:1, :1]).shape[-1]
    step = max(1, _CHUNK_BYTES // (ROWS * width * 8 * 2))  # in float64, and a copy
    for first in range(0, n, step):
        end = min(n, first + step)
        log_p = logits(stream[:, first:end]).double().log_softmax(-1)
        p = log_p[BASELINE].exp()
        # Where p is 0 nothing is added, whatever the other prediction is: 0 × −inf would be NaN.
        terms = torch.where(p > 0, p * (log_p[BASELINE] - log_p), 0.0)
        divergences[:, first:end] = terms.sum(-1).clamp_min(0).cpu().numpy()
        best, ids = log_p.max(-1)
        probabilities[:, first:end] = best.exp().cpu().numpy()
        likeliest[:, first:end] = ids.cpu().numpy()
        last = min(end, n - 1)  # nothing follows the last token
        following = tokens[first + 1 : last + 1].expand(ROWS, -1)[..., None]
        following_log_p = log_p[:, : last - first].gather(-1, following)[..., 0]
        losses[:, first + 1 : last + 1] = -following_log_p.cpu().numpy()
    return PositionEffects(losses, divergences, likeliest, probabilities)


@contextlib.contextmanager
def _keeping_input(head: nn.Module, kept: list[Tensor]) -> Iterator[None]:
    """Keep what the unembedding is given at all positions, and let it compute the last one's
    logits alone."""

    def cut(_: Any, args: tuple[Any, ...]) -> Any:
        kept.append(args[0])
        return (args[0][:, -1:], *args[1:])

    handle = head.register_forward_pre_hook(cut)
    try:
        yield
    finally:
        handle.remove()
