"""Runs a custom text with several neurons ablated at chosen tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from app.errors import Invalid
from app.live.ablation.schemas import (
    AblatedNeuron,
    AblationAnswer,
    NextToken,
    PositionPredictions,
)
from app.live.models import Ready
from app.live.text import note_of, texts_of, tokenised
from app.schemas import Run

if TYPE_CHECKING:
    from indexer.interventions.ablate_positions import PositionEffects


def answer(
    ready: Ready,
    run: Run,
    neurons: Sequence[AblatedNeuron],
    text: str,
    positions: Sequence[int] | None,
    most: int,
) -> AblationAnswer:
    """The effects of `neurons` on a text of at most `most` tokens. Raises Invalid, TooLarge."""
    from indexer.interventions.ablate_positions import Ablated, position_effects
    from indexer.interventions.set_units import why_not

    for layer in {one.layer for one in neurons}:
        if reason := why_not(ready.model, layer):
            raise Invalid(f"Nothing can be ablated here. {reason}")
    token_ids, first = tokenised(ready, run, text, most)
    chosen = _chosen(positions, first, len(token_ids))
    units = [Ablated(one.layer, one.neuron, one.mean) for one in neurons]
    effects = position_effects(ready.model, units, token_ids, chosen)
    if not np.isfinite(effects.divergences).all():
        raise Invalid(f"In {run.dtype} this text gives predictions that are not finite.")
    baseline, zero, mean = (_predictions(ready, effects, row, first) for row in range(3))
    return AblationAnswer(
        model=run.model,
        run=run.id,
        dtype=run.dtype,
        hook_point=run.hook_point,
        neurons=list(neurons),
        tokens=texts_of(ready, run, token_ids, first),
        token_ids=token_ids,
        included_from=first,
        positions=chosen,
        baseline=baseline,
        zero_ablated=zero,
        mean_ablated=mean,
        note=note_of(run.dtype),
    )


def _chosen(positions: Sequence[int] | None, first: int, length: int) -> list[int]:
    """The positions to ablate at, in order. Raises Invalid for one that is not in the text."""
    if positions is None:
        return list(range(first, length))
    wrong = next((at for at in positions if not first <= at < length), None)
    if wrong is not None:
        raise Invalid(
            f"Position {wrong} is not one of the text's: they go from {first} to {length - 1}."
        )
    if not positions:
        raise Invalid("No position is chosen: name some, or leave `positions` out for all.")
    return sorted(set(positions))


def _predictions(
    ready: Ready, effects: PositionEffects, row: int, first: int
) -> PositionPredictions:
    losses = effects.losses[row]
    known = losses[max(first, 1) :]
    return PositionPredictions(
        loss=float(known.mean()) if len(known) else None,
        losses=[None] * max(first, 1) + known.tolist(),
        divergences=effects.divergences[row].tolist(),
        likeliest=[
            NextToken(token=ready.text(token_id), token_id=token_id, probability=probability)
            for token_id, probability in zip(
                effects.likeliest[row].tolist(), effects.probabilities[row].tolist(), strict=True
            )
        ],
    )
