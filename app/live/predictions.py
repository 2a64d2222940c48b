"""Next-token predictions, from the model's words to JSON's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.live.models import Ready
from app.live.schemas import Prediction, Predictions

if TYPE_CHECKING:
    from indexer.interventions.predict import Predicted


def predictions(ready: Ready, predicted: Predicted) -> Predictions:
    """A prediction with its tokens' texts."""
    rows = zip(predicted.token_ids, predicted.probabilities, predicted.as_is, strict=True)
    return Predictions(
        tokens=[
            Prediction(
                token=ready.text(token_id), token_id=token_id, probability=probability, as_is=as_is
            )
            for token_id, probability, as_is in rows
        ],
        divergence=predicted.divergence,
    )
