"""The search by statistics as JSON."""

from __future__ import annotations

from pydantic import Field

from app.schemas import NeuronRow, Order, WholeRun


class NumberRow(NeuronRow):
    """One neuron that was found, with all that can be asked for."""

    density_over_tenth: float
    in_out_cosine: float | None
    gate_out_cosine: float | None
    top_source: str | None = Field(
        description="The source of more than half of its top examples; null: there is none such."
    )


class NumberSearch(WholeRun):
    """A page of the neurons that a query asks for."""

    query: str = Field(description="The query as it was read, in short.")
    sort: str = Field(description="What the neurons are sorted by; `neuron`: by their place.")
    order: Order
    total: int = Field(description="How many neurons there are on all pages.")
    items: list[NumberRow]
    next: str | None = Field(description="Give it as `cursor` for the next page; null: the end.")
