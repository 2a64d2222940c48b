"""The objects that more than one wing returns, as JSON and as pages."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Order = Literal["asc", "desc"]
View = Literal["peak", "window", "context"]
"""How examples are laid out: a line aligned on the peak, the text around it, the whole context."""
DEFAULT_VIEW: View = "peak"


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


class Health(Schema):
    """The server and its database answer."""

    status: Literal["ok"]
    version: str
    runs: int


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
    effect_kurtosis: float | None = Field(description="Excess kurtosis of its logit effects.")
    dead: bool
    peak_token: str = Field(description="The token its highest peak is on.")
    promoted_token: str = Field(description="The token it promotes most.")


class WholeRun(Schema):
    """A run with its size: what a search of all its neurons goes over."""

    model: str
    run: RunRef
    sample: Sample
    n_layers: int
    n_neurons: int
    sources: list[str] = Field(description="The names that `source:` can have.")
