"""Steering a text with units, as JSON: requests and answers."""

from __future__ import annotations

from pydantic import Field

from app.schemas import Schema, UnitName

MOST_UNITS = 16
"""The most units that a text is steered with, besides that of the address."""
MOST_NEW = 200
"""The most tokens generated."""
USUAL_NEW = 40
STRONGEST = 1000.0
"""The largest strength: far beyond it, activations overflow in half precision."""
EXAMPLE = '{"text": "…", "strength": 2}'

_STRENGTH = "In units of the unit's largest activation over the corpus; below 0: against it."


class AlsoSteered(Schema):
    """Another unit of the same set."""

    layer: int = Field(ge=0)
    neuron: int = Field(ge=0)
    strength: float = Field(ge=-STRONGEST, le=STRONGEST, description=_STRENGTH)


class SteeringText(Schema):
    """A text to steer."""

    text: str = Field(description="Up to 64 KiB of UTF-8, and up to the server's limit of tokens.")
    strength: float = Field(1.0, ge=-STRONGEST, le=STRONGEST, description=_STRENGTH)
    also: list[AlsoSteered] = Field(
        default_factory=list, max_length=MOST_UNITS, description="Other units of the same set."
    )
    positions: list[int] | None = Field(
        None,
        description="The text's positions to steer at, a BOS being 0; negative ones count from the "
        "end. null: all but the BOS.",
    )
    generated: bool = Field(True, description="Whether to steer at generated tokens too.")
    new_tokens: int = Field(USUAL_NEW, ge=1, le=MOST_NEW, description="The most to generate.")
    seed: int = Field(0, ge=0, lt=2**32, description="Of the random numbers of both texts.")
    temperature: float = Field(
        1.0, ge=0, le=10, description="Of the sampling; 0: the likeliest token each time."
    )


class SteeredUnit(Schema):
    """A unit and how far it was steered with."""

    layer: int
    neuron: int
    name: UnitName = None
    strength: float
    activation: float = Field(
        description="`strength` × the unit's largest magnitude over the corpus: its vector was "
        "added so many times."
    )


class Generated(Schema):
    """Generated text."""

    text: str
    tokens: list[str]
    token_ids: list[int]


class SteeringAnswer(Schema):
    """A text generated without and with steering."""

    model: str
    run: int = Field(description="The run whose model was used.")
    dtype: str
    units: list[SteeredUnit]
    tokens: list[str] = Field(description="Of the sent text.")
    token_ids: list[int]
    positions: list[int] = Field(description="The positions of the text that were steered at.")
    plain: Generated = Field(description="Without steering.")
    steered: Generated
    divergences: list[float] = Field(
        description="At each token of the sent text and of `plain`: Kullback–Leibler divergence of "
        "the steered prediction of the next token from the plain one, in nats."
    )
    mean_divergence: float = Field(description="Over the tokens from the first steered one on.")
    note: str | None = Field(
        description="How far these values may depend on what else is computed; null: hardly."
    )
