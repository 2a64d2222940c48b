"""Two neurons beside each other, as JSON."""

from __future__ import annotations

from pydantic import Field

from app.neurons.schemas import NeuronPage
from app.schemas import Schema


class SharedContext(Schema):
    """A context that is a top example of two neurons."""

    rank_a: int = Field(description="From 1, among the top examples of `a`.")
    rank_b: int
    context_id_a: int = Field(description="The context in the run of `a`.")
    context_id_b: int


class Correlation(Schema):
    """How two neurons' peaks go together over contexts that both were measured on."""

    contexts: int = Field(description="The first contexts of the sample: so many.")
    value: float | None = Field(
        description="Pearson's correlation of their peaks, kept as float16; null where either "
        "never varies."
    )
    a: list[float] = Field(description="Peaks of `a` in those contexts, to float16's precision.")
    b: list[float] = Field(description="Peaks of `b` in the same contexts.")


class Comparison(Schema):
    """Two neurons, and what it takes to show them on one scale."""

    a: NeuronPage
    b: NeuronPage
    scale: float = Field(description="The larger of the two neurons' scales.")
    low: float = Field(description="Where an axis begins that holds both neurons' histograms.")
    high: float = Field(description="Where it ends.")
    shared: list[SharedContext] | None = Field(
        description="Contexts of the same tokens that are top examples of both, by their rank in "
        "`a`; null where corpus or tokenizer differ, so that there are none to be the same."
    )
    correlation: Correlation | None = Field(
        description="Of their peaks; null where the two runs have no sample in common."
    )
