"""A list of neurons as JSON."""

from __future__ import annotations

from pydantic import Field

from app.examples.schemas import Example
from app.reading.schemas import NeuronRow
from app.schemas import RunRef, Schema


class ListRow(Schema):
    """A neuron of a list, or why it does not exist."""

    address: str = Field(description="`MODEL/LAYER/NEURON`, or a path.")
    missing: str | None = Field(description="Why the neuron does not exist; null: it does.")
    model: str | None
    run: RunRef | None
    scale: float | None = Field(description="Its largest |activation| in the whole run.")
    neuron: NeuronRow | None
    example: Example | None = Field(description="Its first top example; null: there is none.")


class ListPage(Schema):
    """A list of neurons."""

    title: str | None
    n: str = Field(description="The list in short: the `n` that gives the same list.")
    items: list[ListRow]
