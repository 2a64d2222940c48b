"""What a page shows is what its JSON returns: one object, rendered twice. Neurons and runs are
here, lists of them in `layer_schemas`, what is read for a visitor in `live_schemas`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SkipValidation

Part = Literal["in", "gate"]


class Schema(BaseModel):
    """The base of all answers: immutable, and nothing undocumented in them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Error(Schema):
    """What every failed request returns."""

    error: str = Field(description="The kind of failure, such as `not_found`.")
    detail: str = Field(description="What was wrong and what to do, in one sentence.")
    status: int = Field(description="The HTTP status.")


class NeuronRef(Schema):
    """A neuron's address inside a model."""

    layer: int
    neuron: int


class RunRef(Schema):
    """One run in short: enough to say what was indexed and how."""

    id: int
    model: str = Field(description="The model's name in URLs.")
    model_id: str = Field(description="Hub id or label of what was loaded.")
    revision: str | None
    hook_point: str = Field(description="The place captured, such as `mlp.hook_post`.")
    corpus: str
    dtype: str
    contexts: int = Field(description="Contexts scanned.")
    tokens: int = Field(description="Included positions scanned: no BOS, no padding.")
    ctx_len: int
    created_at: datetime
    content_hash: str = Field(description="SHA-256 over all the run holds.")


class Run(RunRef):
    """One run with its provenance in full."""

    n_layers: int
    n_neurons: int
    sample: Sample
    provenance: dict[str, Any] = Field(
        description="Model, weights hash, tokenizer, corpus fingerprint, policies, versions, times."
    )


class Sample(Schema):
    """The ground for everything that is not an extreme."""

    contexts: int
    positions: int = Field(description="Included positions in those contexts.")


class PeakQuantiles(Schema):
    """Quantiles of a neuron's peaks over the sample's contexts."""

    q01: float
    q10: float
    q25: float
    q50: float
    q75: float
    q90: float
    q99: float


class Stats(Schema):
    """A neuron in numbers. Maximum and minimum are over everything, the rest over the sample."""

    max: float
    min: float
    mean: float
    std: float
    skewness: float | None = Field(description="null where the neuron never varied.")
    kurtosis: float | None = Field(description="Excess kurtosis; null where it never varied.")
    density: float = Field(description="Share of the sample's positions with activation > 0.")
    density_over_tenth: float = Field(
        description="Share of the sample's positions at or above `tenth`."
    )
    tenth: float = Field(
        description="10% of the maximum, rounded up to an edge of the fine histogram."
    )
    dead: bool
    peak_quantiles: PeakQuantiles


class Histogram(Schema):
    """Counts in equal bins. `len(edges) == len(counts) + 1`; the last bin is closed above."""

    edges: list[float]
    counts: list[int]


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


class SignCounts(Schema):
    """Positions of the sample by the signs of a gated neuron's two factors (0 counts as not
    positive)."""

    both: int = Field(description="Gate and linear part are positive.")
    gate_only: int = Field(description="The gate is positive, the linear part is not.")
    linear_only: int
    neither: int


class TokenValue(Schema):
    """A token and what a neuron's weights say of it."""

    token: str
    token_id: int
    value: float


class LogitEffects(Schema):
    """What one unit of activation adds directly to each token's logit, from the weights alone."""

    top: list[TokenValue] = Field(description="The most promoted, strongest first.")
    bottom: list[TokenValue] = Field(description="The most suppressed, strongest first.")
    mean: float | None = Field(description="Over the vocabulary.")
    std: float | None
    kurtosis: float | None = Field(
        description="Excess kurtosis over the vocabulary: large where few tokens are singled out."
    )
    histogram: Histogram


class InputTokens(Schema):
    """The tokens whose embedding alone, through the layer's norm, drives one part of a neuron."""

    part: Part = Field(description="`gate` only in gated models.")
    top: list[TokenValue] = Field(description="The most exciting, strongest first.")
    bottom: list[TokenValue] = Field(description="The most inhibiting, strongest first.")
    cosine: float | None = Field(description="Between what this part reads and what it writes.")


class NeuronLink(Schema):
    """Another neuron of the model, and how it is related to this one."""

    layer: int
    neuron: int
    value: float
    part: Part | None = Field(description="Which part reads, where one does.")
    peak_token: str = Field(description="The token its highest peak is on.")


class Weights(Schema):
    """What the weights say without any text."""

    logit_effects: LogitEffects
    inputs: list[InputTokens]
    alike: list[NeuronLink] = Field(description="By the cosine of what they write.")
    upstream: list[NeuronLink] = Field(
        description="Of earlier layers: what they write, times what this neuron reads."
    )
    downstream: list[NeuronLink] = Field(
        description="Of later layers: what this neuron writes, times what they read."
    )


class PeakToken(Schema):
    """A token that kept examples of any kind peak on."""

    token: str
    token_id: int
    count: int = Field(description="Different contexts whose peak is on it.")
    mean: float = Field(description="Mean of those peaks.")


class NeuronPage(Schema):
    """Everything known of one neuron."""

    model: str
    layer: int
    neuron: int
    hook_point: str = Field(description="In full, such as `blocks.3.mlp.hook_post`.")
    n_layers: int = Field(description="Layers of the model.")
    run: RunRef
    sample: Sample
    scale: float = Field(
        description="The neuron's largest |activation| in the whole run: the colour scale's end."
    )
    stats: Stats
    histogram: Histogram = Field(description="Activations by position, over the sample.")
    peak_histogram: Histogram = Field(description="Peaks by context, over the sample.")
    signs: SignCounts | None = Field(description="Gated models only.")
    examples: Examples
    peak_tokens: list[PeakToken] = Field(
        description="Over the kept examples of every kind, each context once; most frequent first."
    )
    together: list[NeuronLink] = Field(
        description="Neurons of the layer by the correlation of peaks over the sample."
    )
    weights: Weights
    previous: NeuronRef | None = Field(description="The neuron before, over layers.")
    next: NeuronRef | None = Field(description="The neuron after, over layers.")
    layer_before: NeuronRef | None = Field(
        description="The neuron of the same number in the layer before (its last one, if it has "
        "fewer); null in the first layer."
    )
    layer_after: NeuronRef | None = Field(description="The same in the layer after.")
    other_runs: list[RunRef] = Field(
        description="Other runs of the model that have this neuron, newest first."
    )


class ContextPage(Schema):
    """One whole context, with a neuron's activations in it."""

    model: str
    layer: int
    neuron: int
    hook_point: str = Field(description="In full, such as `blocks.3.mlp.hook_post`.")
    run: RunRef
    scale: float = Field(description="As on the neuron's page.")
    max: float = Field(description="The neuron's, in the whole run; so of `min`.")
    min: float
    kinds: list[str] = Field(description="The kinds of example it is for this neuron.")
    text: str = Field(description="The included tokens put together.")
    length: int = Field(description="Tokens of the context, a BOS counted.")
    stored_from: int = Field(description="The first position whose activation is stored.")
    stored_to: int = Field(description="The position after the last.")
    example: Example = Field(
        description="All its tokens; `activations` are null outside what was stored."
    )


class Health(Schema):
    """The server and its database answer."""

    status: Literal["ok"]
    version: str
    runs: int
