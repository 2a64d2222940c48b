"""Models and layers as JSON: summaries, lists of neurons, a layer's picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from app.reading.statistics import STATISTICS
from app.schemas import NeuronRow, Order, RunRef, Sample, Schema

PictureStatistic = Literal["max", "density", "effect_kurtosis"]
"""What the cells of a layer's picture can be coloured by."""

# What a layer's table can be sorted by. mypy cannot read a Literal that is made from a table.
if TYPE_CHECKING:
    Sort = str
else:
    Sort = Literal[
        ("neuron", *(name for name, statistic in STATISTICS.items() if statistic.sorts_layers))
    ]


class NeuronList(Schema):
    """A page of a list of neurons."""

    items: list[NeuronRow]
    next: str | None = Field(description="Give it as `cursor` for the next page; null: the end.")


class LayerSummary(Schema):
    """One layer in numbers."""

    layer: int
    neurons: int
    dead: int
    max: float = Field(description="The largest activation of the layer.")
    mean_max: float = Field(description="Mean over its neurons of their maxima.")
    mean_density: float
    max_quantiles: list[float] = Field(description="Of its neurons' maxima: 0, 5%, 10%, … 100%.")
    density_quantiles: list[float] = Field(description="Of their densities, likewise.")


class LayerPage(Schema):
    """One layer and a page of its neurons."""

    model: str
    hook_point: str
    run: RunRef
    sample: Sample
    summary: LayerSummary
    n_layers: int
    sort: Sort
    order: Order
    neurons: NeuronList
    other_runs: list[RunRef] = Field(
        description="Other runs of the model that have this layer, newest first."
    )


class LayerPicture(Schema):
    """One statistic of all of a layer's neurons, in their order: what its picture shows."""

    model: str
    layer: int
    hook_point: str
    run: RunRef
    sample: Sample
    stat: PictureStatistic
    neurons: int = Field(description="Of the whole layer.")
    first: int = Field(description="The first neuron of the lists; they hold at most 4,096.")
    values: list[float | None] = Field(description="null where logit effects never vary.")
    dead: list[bool]
    peak_tokens: list[str] = Field(description="The token each neuron's highest peak is on.")
    n_dead: int = Field(description="Dead neurons of the whole layer.")
    counted: int = Field(description="Living neurons of the whole layer that have a value.")
    lowest: float | None = Field(description="Among those; null: there are none.")
    highest: float | None
    highest_neuron: int | None = Field(description="Of several the first.")
    cuts: list[float] = Field(
        description="What parts the ten colours: the values that 10, 25, 50, 70, 80, 90, 95, 98 "
        "and 99% of those neurons are not above. A neuron's colour is the number of cuts below it."
    )


class ModelSummary(Schema):
    """One model in the list of models."""

    model: str
    n_layers: int
    n_neurons: int
    runs: int
    run: RunRef = Field(description="Its latest run at its default hook point.")


class ModelList(Schema):
    """A page of the list of models."""

    items: list[ModelSummary]
    next: str | None


class ModelPage(Schema):
    """One model: its layers and its runs."""

    model: str
    n_layers: int
    n_neurons: int
    run: RunRef
    sample: Sample
    layers: list[LayerSummary]
    other_runs: list[RunRef]


def default_order(sort: Sort, order: Order | None) -> Order:
    """Neurons count up; statistics are looked at from the largest."""
    return order or ("asc" if sort == "neuron" else "desc")
