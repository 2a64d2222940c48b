"""A list of neurons as JSON."""

from __future__ import annotations

from pydantic import Field

from app.examples.schemas import Example
from app.schemas import NeuronRow, RunRef, Schema


class ListRow(Schema):
    """One neuron of a list, or why it is not to be had."""

    address: str = Field(description="As it is to be written: `MODEL/LAYER/NEURON`, or a path.")
    missing: str | None = Field(description="Why nothing is known of it; null: all is.")
    model: str | None
    run: RunRef | None
    scale: float | None = Field(description="Its largest |activation| in the whole run.")
    neuron: NeuronRow | None
    example: Example | None = Field(description="Its first top example; null: it has none.")


class ListPage(Schema):
    """A list of neurons that its address alone makes."""

    title: str | None
    n: str = Field(description="The list in short: give it as `n` for the same once more.")
    items: list[ListRow]
