"""A context and the neurons that peak in it, as JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.schemas import RunRef, Schema

ExampleKind = Literal["top", "bottom", "source", "band"]
"""What a token is to a neuron."""


class NeuronPeak(Schema):
    """A neuron that has a context among its examples, and where it peaks in it."""

    layer: int
    neuron: int
    kind: ExampleKind = Field(
        description="Of the kinds that have a context for its peak the first of: top, source, band."
    )
    position: int = Field(description="Of the peak; of the trough, for a bottom example.")
    token: str
    value: float = Field(description="The activation there.")


class ContextNeuron(NeuronPeak):
    """A neuron of a context, with what it is like elsewhere."""

    max: float = Field(description="Over the whole run; so of `min`.")
    min: float
    peak_token: str = Field(description="The token its highest peak is on.")


class ContextNeurons(Schema):
    """A context, and the neurons of whose examples it is one."""

    model: str
    run: RunRef
    context_id: int
    document_index: int
    source: str | None
    text: str = Field(description="The included tokens put together.")
    tokens: list[str]
    token_ids: list[int]
    included_from: int = Field(description="The first position that is included: after a BOS, 1.")
    top: list[int] = Field(description="Of each position: neurons whose peak is on it.")
    bottom: list[int] = Field(description="Of each position: neurons whose trough is on it.")
    others: list[int] = Field(
        description="Of each position: neurons whose peak is on it, that have the context as an "
        "example by source or of a band, and not as a top example."
    )
    random: bool = Field(
        description="Whether it is one of the random examples, which are the same for every "
        "neuron: `items` leaves those out."
    )
    position: int | None = Field(description="The position whose neurons are listed; null: all.")
    items: list[ContextNeuron] = Field(
        description="By kind (top, bottom, source, band), layer and neuron."
    )
    next: str | None
