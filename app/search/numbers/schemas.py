"""The search by statistics as JSON."""

from __future__ import annotations

from pydantic import Field

from app.reading.schemas import NeuronRow
from app.schemas import NeuronRef, Order, WholeRun


class NumberRow(NeuronRow):
    """A neuron with all statistics that queries can use."""

    density_over_tenth: float
    in_out_cosine: float | None
    gate_out_cosine: float | None
    top_source: str | None = Field(
        description="The source of more than half of its top examples, if there is one."
    )
    computed: dict[str, float] = Field(
        description="Values of the query's statistics that neurons do not store, by name: `alike`, "
        "`selectivity(SOURCE)`, scores of attention heads; of heads always those that lists show."
    )
    partner: NeuronRef | None = Field(
        description="If the query names `alike`: the neuron with the most similar output weights."
    )


class NumberSearch(WholeRun):
    """A page of the neurons that match a query."""

    query: str = Field(description="The query in its shortest form.")
    sort: str = Field(description="The sorting statistic; `neuron`: by layer and index.")
    order: Order
    total: int = Field(description="The number of neurons on all pages.")
    items: list[NumberRow]
    next: str | None = Field(description="The `cursor` of the next page; null: this is the last.")
