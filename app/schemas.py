"""What a page shows is what its JSON returns: one object, rendered twice. All of them are here."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Sort = Literal["neuron", "max", "density", "mean", "kurtosis"]
Order = Literal["asc", "desc"]


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
    """Activations by position over the sample. `len(edges) == len(counts) + 1`."""

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
    start: int = Field(description="Position in the context of the first token given here.")
    tokens: list[str] = Field(
        description="Texts of the tokens; bytes that are no whole character as \\xNN."
    )
    token_ids: list[int]
    activations: list[float | None] = Field(
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


class Examples(Schema):
    """Examples by kind."""

    top: list[Example]
    bottom: list[Example]
    random: list[Example]
    bands: list[Band]


class LogitEffect(Schema):
    """What one unit of activation adds directly to one token's logit."""

    token: str
    token_id: int
    value: float


class LogitEffects(Schema):
    """The most promoted and the most suppressed tokens, strongest first."""

    top: list[LogitEffect]
    bottom: list[LogitEffect]


class NeuronPage(Schema):
    """Everything known of one neuron."""

    model: str
    layer: int
    neuron: int
    hook_point: str = Field(description="In full, such as `blocks.3.mlp.hook_post`.")
    run: RunRef
    sample: Sample
    stats: Stats
    histogram: Histogram
    examples: Examples
    logit_effects: LogitEffects
    previous: NeuronRef | None = Field(description="The neuron before, over layers.")
    next: NeuronRef | None = Field(description="The neuron after, over layers.")
    other_runs: list[RunRef] = Field(
        description="Other runs of the model that have this neuron, newest first."
    )


class NeuronRow(Schema):
    """One neuron in a list."""

    layer: int
    neuron: int
    max: float
    min: float
    mean: float
    std: float
    skewness: float | None
    kurtosis: float | None
    density: float
    dead: bool
    peak_token: str = Field(description="The token its highest peak is on.")
    promoted_token: str = Field(description="The token it promotes most.")


class NeuronList(Schema):
    """A page of a list of neurons."""

    items: list[NeuronRow]
    next: str | None = Field(description="Give it as `cursor` for the next page; null: the end.")


class LayerSummary(Schema):
    """One layer in numbers."""

    layer: int
    neurons: int
    dead: int
    max: float = Field(description="The largest activation of the layer.")
    mean_max: float = Field(description="Mean over its neurons of their maxima.")
    mean_density: float


class LayerPage(Schema):
    """One layer and a page of its neurons."""

    model: str
    hook_point: str
    run: RunRef
    sample: Sample
    summary: LayerSummary
    n_layers: int
    sort: Sort
    order: Order
    neurons: NeuronList
    other_runs: list[RunRef] = Field(
        description="Other runs of the model that have this layer, newest first."
    )


class ModelSummary(Schema):
    """One model in the list of models."""

    model: str
    n_layers: int
    n_neurons: int
    runs: int
    run: RunRef = Field(description="Its latest run at its default hook point.")


class ModelList(Schema):
    """A page of the list of models."""

    items: list[ModelSummary]
    next: str | None


class ModelPage(Schema):
    """One model: its layers and its runs."""

    model: str
    n_layers: int
    n_neurons: int
    run: RunRef
    sample: Sample
    layers: list[LayerSummary]
    other_runs: list[RunRef]


class Health(Schema):
    """The server and its database answer."""

    status: Literal["ok"]
    version: str
    runs: int
