"""Examples as JSON."""

from __future__ import annotations

from pydantic import Field, SkipValidation

from app.schemas import Schema


class Example(Schema):
    """A context chosen for a neuron, with its activations."""

    rank: int = Field(description="From 1, in the order of its kind.")
    peak: float = Field(description="Largest activation over included positions: exact float32.")
    peak_position: int = Field(description="Position of the peak in the context; BOS is 0.")
    trough: float = Field(description="Smallest activation over included positions: exact.")
    trough_position: int
    context_id: int
    document_index: int
    source: str | None
    gate: float | None = Field(
        description="Gated models: the gate before its nonlinearity, at the peak (of bottom "
        "examples: at the trough); else null."
    )
    linear: float | None = Field(
        description="Gated models: the linear part at the same place. Activation = act(gate) × it."
    )
    start: int = Field(description="Position in the context of the first token given here.")
    # These are made here and nowhere else, and there are thousands on a page: not looked at again.
    tokens: SkipValidation[list[str]] = Field(
        description="Texts of the tokens; bytes that are no whole character as \\xNN."
    )
    token_ids: SkipValidation[list[int]]
    activations: SkipValidation[list[float | None]] = Field(
        description="One a token, to within 1/254 of the largest magnitude; null where the "
        "position is not included (BOS)."
    )


class Band(Schema):
    """Contexts whose peak falls between two quantiles of the neuron's peaks."""

    low: float | None = Field(description="Inclusive; null: no lower bound.")
    high: float | None = Field(description="Exclusive; null: no upper bound.")
    nominal_share: float = Field(description="The share the quantiles promise.")
    share: float = Field(description="The share of the sample's second half that fell here.")
    examples: list[Example]


class SourceExamples(Schema):
    """What one source of the corpus does to a neuron."""

    source: str | None = Field(description="null: documents without a source, or `other`.")
    other: bool = Field(description="Whether it stands for all sources from the ninth on.")
    mean_peak: float | None = Field(
        description="Mean peak over the sample's contexts of it; null: the sample has none."
    )
    examples: list[Example] = Field(description="Its three highest peaks over the whole corpus.")


class Examples(Schema):
    """Examples by kind."""

    top: list[Example]
    bottom: list[Example]
    random: list[Example]
    bands: list[Band]
    sources: list[SourceExamples] = Field(
        description="In corpus order; empty where the corpus has no two sources."
    )


class PeakToken(Schema):
    """A token that kept examples of any kind peak on."""

    token: str
    token_id: int
    count: int = Field(description="Different contexts whose peak is on it.")
    mean: float = Field(description="Mean of those peaks.")
