"""What answers on custom texts share in JSON."""

from __future__ import annotations

from pydantic import Field

from app.schemas import Schema


class Prediction(Schema):
    """A possible next token."""

    token: str
    token_id: int
    probability: float
    as_is: float = Field(description="Its probability at baseline, without ablation.")


class Predictions(Schema):
    """The model's next-token predictions."""

    tokens: list[Prediction] = Field(description="The ten most likely, the most likely first.")
    divergence: float = Field(
        description="Kullback–Leibler divergence from the baseline, in nats: how much the ablation "
        "changed."
    )
