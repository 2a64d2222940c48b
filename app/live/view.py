"""Next-token predictions as tables: of the unchanged model, and with a unit ablated."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app.drawing import charts
from app.drawing.characters import chip
from app.drawing.numbers import MINUS, share
from app.live.schemas import Predictions


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """A possible next token."""

    token: Markup
    token_id: int
    probability: str
    change: str
    """The change from the baseline, in percentage points; empty if there is none to two digits."""
    bar: Markup


@dataclass(frozen=True, slots=True)
class PredictionView:
    """The next tokens at baseline or with one ablation."""

    title: str
    note: str
    """How far it is from the baseline."""
    changed: bool
    """Whether it has an ablation."""
    rows: list[PredictionRow]


def prediction_view(
    title: str, note: str, predictions: Predictions, largest: float, *, changed: bool
) -> PredictionView:
    """The next tokens of one prediction, with bars relative to the probability `largest`."""
    return PredictionView(
        title,
        note,
        changed,
        [
            PredictionRow(
                token=chip(choice.token),
                token_id=choice.token_id,
                probability=share(choice.probability),
                change=_points(choice.probability - choice.as_is) if changed else "",
                bar=charts.bar(choice.probability, largest),
            )
            for choice in predictions.tokens
        ],
    )


def _points(change: float) -> str:
    """A change of a probability in percentage points, to two digits; empty if that is 0."""
    points = f"{abs(change) * 100:.2f}"
    return "" if float(points) == 0 else f"{'+' if change > 0 else MINUS}{points}"
