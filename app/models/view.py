"""The pages of models and layers: pictures, distributions, and the template contexts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

from markupsafe import Markup

from app.drawing import strips
from app.drawing.numbers import MINUS, compact, count, known, number, share
from app.drawing.palette import palette
from app.examples.lines import Kind, Layout, aligned, lines
from app.heads.picture import HeadsView
from app.models import picture
from app.models import plot as scatter
from app.models.rules import RULES
from app.models.schemas import (
    DEFAULT_AXES,
    Gallery,
    GalleryNeuron,
    LayerPage,
    LayerPicture,
    LayerScatter,
    LayerSummary,
    ModelList,
    ModelPage,
    PictureStatistic,
    SetSummary,
)
from app.reading.statistics import STATISTICS
from app.web.frame import Frame
from app.web.links import Links


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a layer that is too wide for one picture."""

    first: int
    label: str
    current: bool


@dataclass(frozen=True, slots=True)
class LayerView:
    """A layer's picture with its description and legend."""

    cells: Markup
    sentence: str
    legend: list[picture.Step]
    statistics: list[tuple[PictureStatistic, str, bool]]
    """The choices of a statistic: name, label, whether it is the current one."""
    parts: list[Part]
    """The parts of the layer; empty if one picture shows all of it."""
    has_dead: bool
    has_valueless: bool


@dataclass(frozen=True, slots=True)
class PlotView:
    """A layer's scatter plot with its description and legend."""

    page: LayerScatter
    svg: Markup
    sentence: str
    keys: list[tuple[int, str]]
    """The colours of sources."""
    statistics: list[tuple[str, str]]
    """The statistics of an axis, with their names."""
    parts: list[Part]
    """The parts of the layer; empty if one plot shows all of it."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """The distribution of a statistic in each layer, on a common axis."""

    axis: Markup
    log: bool
    strips: list[Markup]


@dataclass(frozen=True, slots=True)
class ModelView:
    """The distributions in a model's layers."""

    max: Distribution
    density: Distribution


@dataclass(frozen=True, slots=True)
class GalleryLine:
    """A neuron of a gallery with its first top example, aligned on the peak."""

    item: GalleryNeuron
    model: str
    """The model and set, as notes name them."""
    name: str
    href: str
    line: Markup


@dataclass(frozen=True, slots=True)
class GalleryGroup:
    """The neurons that one rule chose."""

    rule: str
    """The rule's name."""
    title: str
    definition: str
    lines: list[GalleryLine]


@dataclass(frozen=True, slots=True)
class HomeContext:
    """What `models/home.html` is rendered with."""

    frame: Frame
    page: ModelList
    layers: dict[str, int]
    """By model, the layers that have units."""
    sets: dict[str, list[SetSummary]]
    """By model, its sets of units, the default set first."""
    gallery: list[GalleryGroup]
    cursor: str | None
    limit: int | None
    """The limit that links name; None: the default."""


@dataclass(frozen=True, slots=True)
class ModelContext:
    """What `models/model.html` is rendered with."""

    frame: Frame
    page: ModelPage
    view: ModelView
    gallery: list[GalleryGroup]
    live: bool
    """Whether the server can search by custom text."""
    heads: HeadsView | None
    """The model's attention heads, if they are indexed beside the units of the page."""


class Beside(NamedTuple):
    """The nearest layers that have units; None where there is none."""

    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class LayerContext:
    """What `models/layer.html` is rendered with."""

    frame: Frame
    page: LayerPage
    picture: LayerPicture | None
    view: LayerView | None
    """The grid; None if the page has the plot."""
    plot: PlotView | None
    """The scatter plot; None if the page has the grid."""
    cursor: str | None
    limit: int | None
    """The limit that links name; None: the default."""
    shown: dict[str, Any]
    """The parameters of links that keep the plot or grid."""
    sorted: dict[str, Any]
    """The parameters `sort` and `order` of the request."""
    beside: Beside
    measured: list[str]
    """The statistics after max and density that a column shows."""
    pictures: tuple[tuple[str, str], ...] = tuple(
        (stat, STATISTICS[stat].label) for stat in get_args(PictureStatistic)
    )
    """The statistics of the grid, with their names."""


def measured(page: LayerPage) -> list[str]:
    """The statistics of a layer's table after max and density: those with a value in any row, and
    the one that sorts it."""
    names = ("mean", "kurtosis", "lookup", "effect_kurtosis")
    return [name for name in names if name == page.sort or known(page.neurons.items, name)]


def beside(layer: int, present: Collection[int]) -> Beside:
    """The previous and next layer, among the layers `present`."""
    before = max((at for at in present if at < layer), default=None)
    after = min((at for at in present if at > layer), default=None)
    return Beside(before, after)


def layer(drawn: LayerPicture, address: tuple[str, str]) -> LayerView:
    """The view of a layer; `address` is as in `picture.draw`."""
    return LayerView(
        cells=picture.draw(drawn, address),
        sentence=picture.describe(drawn),
        legend=picture.legend(drawn),
        statistics=[
            (stat, STATISTICS[stat].label, stat == drawn.stat)
            for stat in get_args(PictureStatistic)
        ],
        parts=_parts(drawn.neurons, drawn.first),
        has_dead=any(drawn.dead),
        has_valueless=any(
            value is None and not dead for value, dead in zip(drawn.values, drawn.dead, strict=True)
        ),
    )


def description(page: ModelPage) -> str:
    """The model in a sentence, for link previews."""
    layers = f"{count(len(page.layers))} {'layer' if len(page.layers) == 1 else 'layers'}"
    return (
        f"{count(page.n_neurons)} {page.run.units.noun}s in {layers} of "
        f"{page.run.model_id} at {page.run.hook_point}, indexed over "
        f"{compact(page.run.tokens)} tokens of {page.run.corpus}."
    )


def layer_description(page: LayerPage) -> str:
    """The layer in a sentence, for link previews."""
    return (
        f"Layer {page.summary.layer} of {page.run.model_id}: {count(page.summary.neurons)} "
        f"{page.run.units.noun}s, {count(page.summary.dead)} dead."
    )


def plot(drawn: LayerScatter, address: tuple[str, str], noun: str) -> PlotView:
    """The view of a scatter plot; `address` is as in `picture.draw`."""
    return PlotView(
        page=drawn,
        svg=scatter.draw(drawn, address),
        sentence=scatter.describe(drawn, noun),
        keys=scatter.keys(drawn) if len(drawn.sources) > 1 else [],
        statistics=[(name, statistic.label) for name, statistic in STATISTICS.items()],
        parts=_parts(drawn.neurons, drawn.first),
    )


def shown(drawn: LayerPicture | None, plotted: LayerScatter | None) -> dict[str, Any]:
    """The parameters of a layer's page that keep its plot or its grid."""
    if drawn is not None:
        return {"picture": drawn.stat, "first": drawn.first}
    if plotted is None or (plotted.x, plotted.y) == DEFAULT_AXES:
        return {"first": 0 if plotted is None else plotted.first}
    return {"x": plotted.x, "y": plotted.y, "first": plotted.first}


def gallery(shown: Sequence[tuple[Gallery, Links]]) -> list[GalleryGroup]:
    """The neurons of galleries, by rule; with those of several models, names have the model."""
    groups = []
    for rule in RULES:
        found = [
            _gallery_line(item, links, len(shown) > 1)
            for one, links in shown
            for item in one.items
            if item.rule == rule.name
        ]
        if found:
            groups.append(GalleryGroup(rule.name, rule.title, rule.definition, found))
    return groups


def _gallery_line(item: GalleryNeuron, links: Links, with_model: bool) -> GalleryLine:
    layer, neuron = item.neuron.layer, item.neuron.neuron
    name = f"{links.model} {layer}/{neuron}" if with_model else f"{layer}/{neuron}"
    line = Markup()
    if item.example is not None:
        colours = palette(item.scale, low=item.neuron.min, high=item.neuron.max)
        ((drawn,),) = lines([Kind([item.example])], Layout("peak", colours, str))
        line = Markup(aligned(drawn))
    return GalleryLine(item, str(links.name), name, links.neuron(layer, neuron), line)


def model(page: ModelPage) -> ModelView:
    """The distributions of maximum and density in each layer, each on an axis for all layers."""
    return ModelView(
        max=_distribution(page.layers, lambda layer: layer.max_quantiles, number, _plain),
        density=_distribution(
            page.layers, lambda layer: layer.density_quantiles, share, _percent, 1.0
        ),
    )


def _parts(neurons: int, current: int) -> list[Part]:
    if neurons <= picture.MOST_NEURONS and not current:
        return []
    last = neurons - 1
    return [
        Part(
            first,
            f"{count(first)}–{count(min(last, first + picture.MOST_NEURONS - 1))}",
            first == current,
        )
        for first in range(0, neurons, picture.MOST_NEURONS)
    ]


def _distribution(
    layers: list[LayerSummary],
    quantiles: Callable[[LayerSummary], list[float]],
    spell: Callable[[float], str],
    tick: Callable[[float], str],
    whole: float | None = None,
) -> Distribution:
    axis = strips.axis_for([quantiles(layer) for layer in layers], whole)
    return Distribution(
        axis=strips.scale(axis, tick),
        log=axis.log,
        strips=[strips.strip(quantiles(layer), axis, spell) for layer in layers],
    )


def _plain(value: float) -> str:
    """A round number, without superfluous digits."""
    return compact(value) if abs(value) >= 10_000 else f"{value:,g}".replace("-", MINUS)


def _percent(value: float) -> str:
    return f"{value * 100:g}%"
