"""How a model's heads formed: the scores of its training checkpoints, as a chart and a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.drawing.numbers import count, number, share
from app.heads.schemas import HeadCheckpoint

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 300, 120, 44, 14, 22
"""Of a chart, in user units, and the margins inside it."""


@dataclass(frozen=True, slots=True)
class TrainingView:
    """What `heads/heads.html` shows of a model's training."""

    charts: list[tuple[str, Markup]]
    """Title and picture."""
    rows: list[list[str]]
    """Step, stage, loss, in-context-learning score, losses on both copies, highest scores."""


def training_view(checkpoints: Sequence[HeadCheckpoint] | None) -> TrainingView | None:
    """The view of checkpoints in the order of training; None without any."""
    if not checkpoints:
        return None
    steps = [checkpoint.step for checkpoint in checkpoints]
    induction = [_highest(checkpoint.induction) for checkpoint in checkpoints]
    learning = [checkpoint.in_context for checkpoint in checkpoints]
    return TrainingView(
        charts=[
            ("Highest induction score of a head", _chart(steps, induction, share)),
            ("In-context-learning score, nats", _chart(steps, learning, number)),
        ],
        rows=[
            [
                count(checkpoint.step),
                checkpoint.stage,
                number(checkpoint.loss),
                number(checkpoint.in_context),
                number(checkpoint.first_loss),
                number(checkpoint.second_loss),
                share(_highest(checkpoint.previous_token)),
                share(_highest(checkpoint.induction)),
            ]
            for checkpoint in checkpoints
        ],
    )


def _highest(scores: Sequence[Sequence[float]]) -> float:
    return max(max(layer, default=0.0) for layer in scores)


def _chart(steps: Sequence[int], values: Sequence[float], words: Callable[[float], str]) -> Markup:
    """A line over training steps, with its range and the last step as labels, and a line at 0.
    Readers without sight have the table."""
    low, high = min(0.0, *values), max(0.0, *values)
    across = (_WIDTH - _LEFT - 8) / (max(steps) or 1)
    down = (_HEIGHT - _TOP - _BOTTOM) / ((high - low) or 1.0)

    def y(value: float) -> float:
        return _TOP + (high - value) * down

    points = " ".join(
        f"{_LEFT + step * across:.1f},{y(value):.1f}"
        for step, value in zip(steps, values, strict=True)
    )
    dots = "".join(
        f'<circle cx="{_LEFT + step * across:.1f}" cy="{y(value):.1f}" r="2.5"/>'
        for step, value in zip(steps, values, strict=True)
    )
    top, bottom = ("0" if value == 0 else words(value) for value in (high, low))
    return Markup(
        f'<svg class="training" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">'
        f'<path class="axis" d="M{_LEFT} {y(0):.1f}H{_WIDTH - 8}"/>'
        f'<text x="{_LEFT - 6}" y="{_TOP + 4}" text-anchor="end">{escape(top)}</text>'
        f'<text x="{_LEFT - 6}" y="{_HEIGHT - _BOTTOM + 4}" text-anchor="end">{escape(bottom)}'
        f'</text><text x="{_WIDTH - 8}" y="{_HEIGHT - 6}" text-anchor="end">step '
        f"{count(max(steps))}</text>"
        f'<polyline points="{points}"/>{dots}</svg>'
    )
