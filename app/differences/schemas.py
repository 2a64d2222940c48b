"""The differences between two runs of a model, as JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.schemas import NewestNote, Order, RunRef, Schema, UnitName

DifferenceSort = Literal["correlation", "max", "density", "shared", "neuron"]
"""What neurons are sorted by: `max` and `density` by the size of their change."""


def first_order(sort: DifferenceSort) -> Order:
    """The order that has the largest change first."""
    return "desc" if sort in ("max", "density") else "asc"


class NeuronDifference(Schema):
    """A neuron in two runs."""

    layer: int
    neuron: int
    name: UnitName = None
    correlation: float | None = Field(
        description="Pearson's correlation of its peaks in `a` and in `b` over the contexts that "
        "both samples have; null if the peaks of either are constant, or if there are too few."
    )
    shared: float | None = Field(
        description="Share of its top examples in `a` that are top examples in `b` too, by their "
        "tokens; null if the vocabularies differ or there are none."
    )
    max_a: float
    max_b: float
    density_a: float
    density_b: float
    peak_token_a: str = Field(description="The token it peaks on in `a`; so `peak_token_b`.")
    peak_token_b: str
    note: NewestNote = None


class Differences(Schema):
    """A page of the neurons of two runs of a model."""

    model: str
    a: RunRef
    b: RunRef
    layer: int | None = Field(description="null: all layers.")
    n_layers: int = Field(description="Layers that both runs have.")
    at_once: bool = Field(description="Whether all layers can be compared in one table.")
    sort: DifferenceSort
    order: Order
    contexts: int = Field(
        description="The contexts that correlations are over: of the sample's first 256, those "
        "that both runs have."
    )
    fewest: int = Field(
        description="The fewest common contexts that correlations are over: 1 if the samples are "
        "the same."
    )
    total: int = Field(description="The number of neurons on all pages.")
    items: list[NeuronDifference]
    next: str | None = Field(description="The `cursor` of the next page; null: this is the last.")
