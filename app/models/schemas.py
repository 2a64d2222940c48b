"""Models and layers as JSON: summaries, lists of neurons, a layer's picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from app.examples.schemas import Example
from app.reading.schemas import NeuronRow
from app.reading.statistics import STATISTICS
from app.schemas import Order, RunRef, Sample, Schema, UnitName

PictureStatistic = Literal["max", "density", "effect_kurtosis"]
"""The statistics that a layer's picture can show."""

# What the axes of a layer's scatter plot can show. mypy cannot read a Literal made from a table.
if TYPE_CHECKING:
    ScatterStatistic = str
else:
    ScatterStatistic = Literal[tuple(STATISTICS)]

# What a layer's table can be sorted by, likewise.
if TYPE_CHECKING:
    Sort = str
else:
    Sort = Literal[
        ("neuron", *(name for name, statistic in STATISTICS.items() if statistic.sorts_layers))
    ]


DEFAULT_AXES = ("density", "kurtosis")
"""The statistics of a layer's scatter plot, across and up."""


class NeuronList(Schema):
    """A page of a list of neurons."""

    items: list[NeuronRow]
    next: str | None = Field(description="The `cursor` of the next page; null: this is the last.")


class LayerSummary(Schema):
    """A layer in numbers."""

    layer: int
    neurons: int
    dead: int
    max: float = Field(description="The largest activation of the layer.")
    mean_max: float = Field(description="The mean of its neurons' maxima.")
    mean_density: float
    max_quantiles: list[float] = Field(
        description="The quantiles of its neurons' maxima: 0, 5%, 10%, … 100%."
    )
    density_quantiles: list[float] = Field(description="The same of their densities.")


class LayerPage(Schema):
    """A layer and a page of its neurons."""

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
    """A statistic of a layer's neurons in order, as its picture shows it."""

    model: str
    layer: int
    hook_point: str
    run: RunRef
    sample: Sample
    stat: PictureStatistic
    neurons: int = Field(description="Neurons of the whole layer.")
    first: int = Field(description="The first neuron of the lists, which have at most 4,096.")
    values: list[float | None] = Field(
        description="null if the neuron's logit effects are constant."
    )
    dead: list[bool]
    peak_tokens: list[str] = Field(description="The token each neuron peaks on.")
    n_dead: int = Field(description="Dead neurons of the whole layer.")
    counted: int = Field(description="Live neurons of the whole layer with a value.")
    lowest: float | None = Field(description="The lowest value; null: there are no values.")
    highest: float | None
    highest_neuron: int | None = Field(
        description="The neuron with the highest value, the first of equals."
    )
    cuts: list[float] = Field(
        description="The cuts between the ten colours: the values that 10, 25, 50, 70, 80, 90, 95, "
        "98 and 99% of these neurons do not exceed. A neuron's colour is the number of cuts below "
        "its value."
    )


class LayerDot(Schema):
    """A neuron of a scatter plot."""

    neuron: int
    name: UnitName = None
    x: float | None = Field(description="null: the neuron has no such value; so `y`.")
    y: float | None
    source: int | None = Field(
        description="The source of more than half of its top examples: an index into `sources`."
    )
    peak_token: str = Field(description="The token it peaks on.")


class LayerScatter(Schema):
    """Two statistics of a layer's live neurons, as its scatter plot shows them."""

    model: str
    layer: int
    hook_point: str
    run: RunRef
    sample: Sample
    x: ScatterStatistic
    y: ScatterStatistic
    sources: list[str]
    neurons: int = Field(description="Neurons of the whole layer.")
    n_dead: int = Field(description="Dead neurons among them, which are left out.")
    first: int = Field(description="The first neuron; a plot has those of at most 4,096.")
    dots: list[LayerDot]
    outliers: list[int] = Field(
        description="The neurons farthest from the median on both axes together, at most 14."
    )


class ModelSummary(Schema):
    """A model in the list of models."""

    model: str
    n_layers: int
    n_neurons: int
    runs: int
    run: RunRef = Field(description="Its default run: the newest at its default hook point.")


class ModelList(Schema):
    """A page of the list of models."""

    items: list[ModelSummary]
    next: str | None


class SetSummary(Schema):
    """One of a model's sets of units."""

    n_layers: int
    n_units: int
    run: RunRef = Field(description="The set's default run.")


class ModelPage(Schema):
    """A model: its layers and its runs."""

    model: str
    n_layers: int
    n_neurons: int
    run: RunRef
    sample: Sample
    layers: list[LayerSummary]
    sets: list[SetSummary] = Field(
        description="The model's sets of units, this one among them; the default set first."
    )
    other_runs: list[RunRef]


class GalleryRule(Schema):
    """A reason to show a neuron in a gallery."""

    rule: str
    definition: str


class GalleryNeuron(Schema):
    """A neuron of a gallery, with its first top example."""

    rule: str = Field(description="Why it was chosen: one of `rules`.")
    neuron: NeuronRow
    scale: float = Field(description="Its largest |activation| in the whole run.")
    example: Example | None = Field(description="Its first top example; null: there is none.")


class Gallery(Schema):
    """Neurons of a run worth a first look, chosen by rules."""

    model: str
    run: RunRef
    rules: list[GalleryRule]
    items: list[GalleryNeuron] = Field(description="At most 12, by rule.")


def default_order(sort: Sort, order: Order | None) -> Order:
    """The given order; by default neurons ascend, and statistics descend."""
    return order or ("asc" if sort == "neuron" else "desc")
