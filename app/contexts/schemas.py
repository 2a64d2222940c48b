"""A context and the neurons that peak in it, as JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.schemas import NewestNote, RunRef, Schema, UnitName

ExampleKind = Literal["top", "bottom", "source", "band"]
"""The kinds of examples that are of their own for each neuron."""


class NeuronPeak(Schema):
    """A neuron that has a context as an example, and where it peaks in it."""

    layer: int
    neuron: int
    name: UnitName = None
    kind: ExampleKind = Field(
        description="The kind of example. A context that is an example of several kinds for its "
        "peak has the first of top, source, band."
    )
    position: int = Field(description="The peak's position; for a bottom example, the trough's.")
    token: str
    value: float = Field(description="The activation at this position.")


class ContextNeuron(NeuronPeak):
    """A neuron of a context, with facts about it from the whole run."""

    max: float = Field(description="The neuron's maximum in the whole run; so `min`.")
    min: float
    peak_token: str = Field(description="The token it peaks on.")
    note: NewestNote = None


class ContextNeurons(Schema):
    """A context, and the neurons that have it as an example."""

    model: str
    run: RunRef
    context_id: int
    document_index: int
    source: str | None
    text: str = Field(description="The text of the included tokens.")
    tokens: list[str]
    token_ids: list[int]
    included_from: int = Field(description="The first included position: 1 after a BOS, else 0.")
    special: list[int] = Field(
        description="Positions of special tokens inside a pre-tokenised row, such as a separator: "
        "they are not included either."
    )
    top: list[int] = Field(
        description="For each position, the number of neurons that have it as a top example."
    )
    bottom: list[int] = Field(description="The same for troughs and bottom examples.")
    others: list[int] = Field(
        description="The same for neurons that have it as an example by source or of a band, and "
        "not as a top example."
    )
    random: bool = Field(
        description="Whether it is a random example. These are the same for every neuron, and "
        "`items` leaves them out."
    )
    position: int | None = Field(description="The position whose neurons `items` lists; null: all.")
    items: list[ContextNeuron] = Field(
        description="By kind (top, bottom, source, band), layer and neuron."
    )
    next: str | None
