"""Examples as JSON."""

from __future__ import annotations

from pydantic import Field, SkipValidation

from app.schemas import Schema

FEWEST_COMMON = 30
"""The fewest common contexts of two different samples over which peaks are correlated."""


class Example(Schema):
    """A context chosen for a neuron, with its activations."""

    rank: int = Field(description="Its rank within its kind, from 1.")
    peak: float = Field(description="Largest activation over included positions: exact float32.")
    peak_position: int = Field(description="Position of the peak in the context; BOS is 0.")
    trough: float = Field(description="Smallest activation over included positions: exact float32.")
    trough_position: int
    context_id: int
    document_index: int
    source: str | None
    gate: float | None = Field(
        description="Gated models: the gate before its nonlinearity, at the peak (for bottom "
        "examples: at the trough); else null."
    )
    linear: float | None = Field(
        description="Gated models: the linear part there. Activation = act(gate) × linear."
    )
    start: int = Field(description="The position in the context of the first token in `tokens`.")
    # Not validated, for speed: a page has thousands, all made by examples/queries.py.
    tokens: SkipValidation[list[str]] = Field(
        description="Texts of the tokens; incomplete UTF-8 appears as \\xNN."
    )
    token_ids: SkipValidation[list[int]]
    activations: SkipValidation[list[float | None]] = Field(
        description="One a token, to within 1/254 of the largest magnitude; null at positions "
        "that are not included (BOS)."
    )


class Band(Schema):
    """Contexts whose peak falls between two quantiles of the neuron's peaks."""

    low: float | None = Field(description="Inclusive; null: no lower bound.")
    high: float | None = Field(description="Exclusive; null: no upper bound.")
    nominal_share: float = Field(description="The target share, by the quantiles.")
    share: float = Field(
        description="The share of the sample's second half that fell in it; of sparse units, of "
        "sampled contexts in which they fire."
    )
    examples: list[Example]


class SourceExamples(Schema):
    """A neuron's examples from one source of the corpus."""

    source: str | None = Field(description="null: documents without a source, or see `other`.")
    other: bool = Field(description="Whether it combines all sources from the ninth on.")
    mean_peak: float | None = Field(
        description="Mean peak over the sample's contexts from it; null: there are none."
    )
    examples: list[Example] = Field(
        description="Its contexts with the highest peaks over the whole corpus, at most three."
    )


class Examples(Schema):
    """A neuron's examples by kind."""

    top: list[Example]
    bottom: list[Example]
    random: list[Example]
    bands: list[Band]
    sources: list[SourceExamples] = Field(
        description="In corpus order; empty unless the corpus has two or more sources."
    )


class PeakToken(Schema):
    """A token that examples of any kind peak on."""

    token: str
    token_id: int
    count: int = Field(description="Number of contexts that peak on it.")
    mean: float = Field(description="Mean of those peaks.")
