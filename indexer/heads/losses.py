"""How well a model predicts later tokens compared with earlier ones: on text (its
in-context-learning score) and on random tokens that repeat.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from indexer.heads.repeated import Repeated
from indexer.models.loaded import LoadedModel

CONTEXTS = 256
"""Whole contexts of the sample that the in-context-learning score is measured on."""
_BATCH = 8


@dataclass(frozen=True)
class InContext:
    """Mean losses in nats early and late in contexts (Olsson et al. 2022 took token 50 and 500)."""

    contexts: int
    early: float
    late: float
    early_positions: tuple[int, int]
    """First and last predicted position, from a tenth to a fifth of the context."""
    late_positions: tuple[int, int]
    """The last tenth."""

    @property
    def score(self) -> float:
        """Late minus early: negative where the model learns from the context."""
        return self.late - self.early


def in_context(
    model: LoadedModel,
    contexts: Iterable[np.ndarray],
    ctx_len: int,
    special_ids: Collection[int] = (),
) -> InContext | None:
    """Mean losses in nats over the first `CONTEXTS` contexts of full length `ctx_len`. None if
    there is none, if a tenth of it is under two positions, or if nothing is counted early or late.
    Predictions of the tokens `special_ids` are not counted."""
    whole = [context for context in contexts if len(context) == ctx_len][:CONTEXTS]
    tenth = ctx_len // 10
    if not whole or tenth < 2:
        return None
    tokens = np.stack(whole).astype(np.int64)
    counted = ~np.isin(tokens[:, 1:], list(special_ids))  # position p + 1 is predicted at p
    total = np.where(counted, token_losses(model, torch.from_numpy(tokens)), 0).sum(axis=0)
    positions = counted.sum(axis=0)
    spans = slice(tenth, 2 * tenth), slice(ctx_len - 1 - tenth, ctx_len - 1)
    if not all(positions[span].any() for span in spans):
        return None
    early, late = (
        float((total[span] / np.maximum(positions[span], 1))[positions[span] > 0].mean())
        for span in spans
    )
    return InContext(
        contexts=len(whole),
        early=early,
        late=late,
        early_positions=(tenth + 1, 2 * tenth),
        late_positions=(ctx_len - tenth, ctx_len - 1),
    )


def repeated_losses(model: LoadedModel, repeated: Repeated) -> tuple[float, float]:
    """Mean losses in nats of the first copy's tokens and of the second's, without the first token
    of each, which nothing predicts."""
    losses = token_losses(model, torch.from_numpy(repeated.tokens))
    second = repeated.second[:-1]
    first = np.roll(second, -repeated.length)
    return float(losses[:, first].mean()), float(losses[:, second].mean())


@torch.inference_mode()
def token_losses(
    model: LoadedModel, tokens: Int[Tensor, "batch pos"]
) -> Float64[np.ndarray, "batch pos-1"]:
    """The loss of each next token in nats, of contexts without padding."""
    parts = []
    for batch in torch.split(tokens.to(model.device), _BATCH):
        out = model.root(input_ids=batch, attention_mask=torch.ones_like(batch))
        logits = getattr(out, "logits", out)[:, :-1].float()
        loss = cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none")
        parts.append(loss.view(len(batch), -1).double().cpu().numpy())
    return np.concatenate(parts)
