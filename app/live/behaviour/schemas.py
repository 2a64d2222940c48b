"""The search by custom text, as JSON: requests and answers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.schemas import Sample, Schema, UnitName

By = Literal["maximum", "percentile"]
"""What an activation is compared with."""
MOST = 50
"""The most neurons a token."""
USUAL = 10
"""The default number of neurons a token."""

_SHARE = (
    "By `maximum`: activation ÷ the neuron's maximum over the corpus; above 1 if the text "
    "activates it more than anything in the corpus. By `percentile`: at least this share of the "
    "sample's positions, of sparse units of the positions at which the unit fires, have a lower "
    "activation (those in lower bins of its histogram). "
    "0 if the activation is not above 0. In sets whose lowest activations say as much as the "
    "highest, by magnitude: ÷ the largest magnitude, and 1 at either end of the percentiles, 0 at "
    "the median."
)


class BehaviourText(Schema):
    """A custom text to search with."""

    text: str = Field(description="Up to 64 KiB of UTF-8, and up to the server's limit of tokens.")
    by: By = Field("maximum", description="What activations are compared with.")
    against: str | None = Field(
        None, description="A second text, to find neurons that fire on only one of the two."
    )
    k: int = Field(
        USUAL, ge=1, le=MOST, description="Neurons a token, and each direction of a contrast."
    )


class FiringNeuron(Schema):
    """A neuron that fires on a token."""

    layer: int
    neuron: int
    name: UnitName = None
    activation: float
    share: float = Field(description=_SHARE)
    of_maximum: float = Field(description="Activation ÷ the neuron's maximum, also by percentile.")
    peak_token: str = Field(description="The token it peaks on in the corpus.")


class TextPeak(Schema):
    """A neuron's peak in one of two texts."""

    activation: float
    share: float
    position: int = Field(description="Its position, the earliest of equals; a BOS is 0.")


class ContrastedNeuron(Schema):
    """A neuron that fires more on one of two texts."""

    layer: int
    neuron: int
    name: UnitName = None
    difference: float = Field(description="The higher share minus the lower; above 0.")
    text: TextPeak
    against: TextPeak
    peak_token: str


class Contrast(Schema):
    """The neurons that tell two texts apart."""

    tokens: list[str] = Field(description="Of the second text.")
    token_ids: list[int]
    included_from: int
    more: list[ContrastedNeuron] = Field(
        description="Those that fire more on the first text, by the difference of their "
        "highest shares."
    )
    less: list[ContrastedNeuron] = Field(
        description="Those that fire more on the second, likewise."
    )


class BehaviourAnswer(Schema):
    """The neurons of all layers that fire most for each token of a text."""

    model: str
    run: int = Field(description="The run whose model and statistics were used.")
    dtype: str
    hook_point: str
    by: By
    k: int
    sample: Sample
    n_neurons: int = Field(description="Neurons of all layers.")
    compared: int = Field(
        description="How many of them were compared: those that are not dead and have a maximum "
        "above 0 and, by percentile, a histogram."
    )
    tokens: list[str] = Field(description="Texts of the tokens; incomplete UTF-8 appears as \\xNN.")
    token_ids: list[int]
    included_from: int = Field(description="The first included position: 1 after a BOS, else 0.")
    neurons: list[list[FiringNeuron]] = Field(
        description="A list a token: at most `k`, the highest share first, ties by `of_maximum`, "
        "then layer and neuron. Only activations above 0, and only included positions."
    )
    shares: list[list[float | None]] = Field(
        description="A list a layer, a number a token: the highest share in the layer; null if no "
        "neuron of it fires or the position is not included."
    )
    strongest: list[list[int | None]] = Field(
        description="The neuron of the layer with that share."
    )
    contrast: Contrast | None = Field(description="null without a second text.")
    note: str | None = Field(
        description="How far these values may differ from the indexed ones; null: hardly."
    )
