"""What a text does to all neurons: what is sent, and what is answered."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.schemas import Sample, Schema

By = Literal["maximum", "percentile"]
"""What an activation is measured by."""
MOST = 50
USUAL = 10

_SHARE = (
    "By `maximum`: its activation ÷ its maximum over the corpus, above 1 where the text excites it "
    "more than all of that. By `percentile`: at least this share of the sample's positions have a "
    "lower activation of it (those in bins of its histogram wholly below). 0 where the "
    "activation is not above 0."
)


class BehaviourText(Schema):
    """A text to find neurons by."""

    text: str = Field(description="Up to 64 KiB of UTF-8, and up to the server's limit of tokens.")
    by: By = Field("maximum", description="What makes activations of two neurons comparable.")
    against: str | None = Field(
        None, description="A second text: neurons that fire on one of both, and not on the other."
    )
    k: int = Field(USUAL, ge=1, le=MOST, description="Neurons a token, and each way of a contrast.")


class FiringNeuron(Schema):
    """A neuron at one token."""

    layer: int
    neuron: int
    activation: float
    share: float = Field(description=_SHARE)
    of_maximum: float = Field(description="Its activation ÷ its maximum, whatever `by` says.")
    peak_token: str = Field(description="The token at its highest peak of the whole corpus.")


class TextPeak(Schema):
    """Where a neuron is highest in one text."""

    activation: float
    share: float
    position: int = Field(description="The earliest with this activation; a BOS is counted.")


class ContrastedNeuron(Schema):
    """A neuron that one of two texts excites more."""

    layer: int
    neuron: int
    difference: float = Field(description="The one share less the other; always above 0.")
    text: TextPeak
    against: TextPeak
    peak_token: str


class Contrast(Schema):
    """Two texts: what fires on one and not on the other."""

    tokens: list[str] = Field(description="Of the second text.")
    token_ids: list[int]
    included_from: int
    more: list[ContrastedNeuron] = Field(
        description="Higher on the first text, by the difference of its highest shares in both."
    )
    less: list[ContrastedNeuron] = Field(description="Higher on the second, alike.")


class BehaviourAnswer(Schema):
    """The neurons that fire most for each token of a text, over all layers."""

    model: str
    run: int = Field(description="The run whose model read the text, and whose maxima are meant.")
    dtype: str
    hook_point: str
    by: By
    k: int
    sample: Sample
    n_neurons: int = Field(description="Neurons of all layers.")
    compared: int = Field(
        description="How many of them were compared: those that are not dead, have a maximum above "
        "0 and, by percentile, a histogram."
    )
    tokens: list[str] = Field(
        description="Texts of the tokens; bytes that are no whole character as \\xNN."
    )
    token_ids: list[int]
    included_from: int = Field(description="The first included position: 1 after a BOS, else 0.")
    neurons: list[list[FiringNeuron]] = Field(
        description="A list a token: at most `k`, the highest share first, ties by `of_maximum`, "
        "then layer and neuron. Only activations above 0; none of a position not included."
    )
    shares: list[list[float | None]] = Field(
        description="A list a layer, a number a token: the highest share in the layer; null where "
        "none of its neurons fires, or the position is not included."
    )
    strongest: list[list[int | None]] = Field(description="Which neuron of the layer has it.")
    contrast: Contrast | None = Field(description="Null where no second text was sent.")
    note: str | None = Field(
        description="How far these values may be from the indexed ones, where they may be far."
    )
