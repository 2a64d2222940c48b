"""The comparison of two neurons as JSON."""

from __future__ import annotations

from pydantic import Field

from app.neurons.schemas import NeuronPage
from app.schemas import Schema


class SharedContext(Schema):
    """A context that is a top example of two neurons."""

    rank_a: int = Field(description="Its rank among the top examples of `a`, from 1.")
    rank_b: int
    context_id_a: int = Field(description="Its id in the run of `a`.")
    context_id_b: int


class Correlation(Schema):
    """How two neurons' peaks correlate over contexts that both were measured on."""

    contexts: int = Field(
        description="The number of contexts: the first of the sample or, of two samples, those "
        "that both have among their first 256."
    )
    value: float | None = Field(
        description="Pearson's correlation of their peaks, from float16; null if the peaks of "
        "either are constant."
    )
    a: list[float] = Field(description="Peaks of `a` in these contexts, from float16.")
    b: list[float] = Field(description="Peaks of `b` in the same contexts.")
    context_ids: list[int | None] = Field(
        description="These contexts' ids in the run of `a`, null where the context is not stored; "
        "empty if the run was indexed before these were kept."
    )


class Comparison(Schema):
    """Two neurons, with a common scale and axis."""

    a: NeuronPage
    b: NeuronPage
    scale: float = Field(description="The larger of the two neurons' scales.")
    low: float = Field(description="The start of an axis for both neurons' histograms.")
    high: float = Field(description="The end of that axis.")
    scores: dict[str, tuple[float | None, float | None]] | None = Field(
        description="Scores of two attention heads, of `a` and of `b`, by the names that searches "
        "have for them; null unless both are heads."
    )
    shared: list[SharedContext] | None = Field(
        description="Contexts that are top examples of both, by their rank in `a`; null if corpus "
        "or tokenizer differ."
    )
    correlation: Correlation | None = Field(
        description="Of their peaks; null if two samples have fewer than 30 contexts in common."
    )
