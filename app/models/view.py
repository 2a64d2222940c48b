"""What the pages of models and layers show beside the fields of their JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from markupsafe import Markup

from app.drawing import strips
from app.drawing.numbers import MINUS, compact, count, number, share
from app.models import picture
from app.models.schemas import (
    LayerPage,
    LayerPicture,
    LayerSummary,
    ModelList,
    ModelPage,
    PictureStatistic,
)
from app.reading.statistics import STATISTICS
from app.web.frame import Frame


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a layer that is too wide for one picture."""

    first: int
    words: str
    current: bool


@dataclass(frozen=True, slots=True)
class LayerView:
    """A layer's picture with all that is said of it."""

    cells: Markup
    sentence: str
    legend: list[picture.Step]
    statistics: list[tuple[PictureStatistic, str, bool]]
    """All that the picture can show: name, words, whether it is this one."""
    parts: list[Part]
    """Empty where one picture holds the layer."""
    has_dead: bool
    has_valueless: bool


@dataclass(frozen=True, slots=True)
class Distribution:
    """How one statistic is distributed in every layer, on one axis."""

    axis: Markup
    log: bool
    strips: list[Markup]


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model's layers, side by side."""

    max: Distribution
    density: Distribution


@dataclass(frozen=True, slots=True)
class HomeContext:
    """What `models/home.html` is rendered with."""

    frame: Frame
    page: ModelList
    cursor: str | None
    limit: int | None
    """The limit that links name; None: the default one."""


@dataclass(frozen=True, slots=True)
class ModelContext:
    """What `models/model.html` is rendered with."""

    frame: Frame
    page: ModelPage
    view: ModelView


@dataclass(frozen=True, slots=True)
class LayerContext:
    """What `models/layer.html` is rendered with."""

    frame: Frame
    page: LayerPage
    picture: LayerPicture
    view: LayerView
    cursor: str | None
    limit: int | None
    """The limit that links name; None: the default one."""
    sorted: dict[str, Any]
    """`sort` and `order` as they were asked for."""


def layer(drawn: LayerPicture, address: tuple[str, str]) -> LayerView:
    """What the layer's page needs beside its table; `address` is as in `picture.draw`."""
    return LayerView(
        cells=picture.draw(drawn, address),
        sentence=picture.describe(drawn),
        legend=picture.legend(drawn),
        statistics=[
            (stat, STATISTICS[stat].label, stat == drawn.stat)
            for stat in get_args(PictureStatistic)
        ],
        parts=_parts(drawn),
        has_dead=any(drawn.dead),
        has_valueless=any(
            value is None and not dead for value, dead in zip(drawn.values, drawn.dead, strict=True)
        ),
    )


def model(page: ModelPage) -> ModelView:
    """What the model's page needs beside its numbers."""
    return ModelView(
        max=_distribution(page.layers, lambda layer: layer.max_quantiles, number, _plain),
        density=_distribution(
            page.layers, lambda layer: layer.density_quantiles, share, _percent, 1.0
        ),
    )


def _parts(drawn: LayerPicture) -> list[Part]:
    if len(drawn.values) == drawn.neurons:
        return []
    last = drawn.neurons - 1
    return [
        Part(
            first,
            f"{count(first)}–{count(min(last, first + picture.AT_ONCE - 1))}",
            first == drawn.first,
        )
        for first in range(0, drawn.neurons, picture.AT_ONCE)
    ]


def _distribution(
    layers: list[LayerSummary],
    quantiles: Callable[[LayerSummary], list[float]],
    words: Callable[[float], str],
    tick: Callable[[float], str],
    whole: float | None = None,
) -> Distribution:
    axis = strips.axis_for([quantiles(one) for one in layers], whole)
    return Distribution(
        axis=strips.scale(axis, tick),
        log=axis.log,
        strips=[strips.strip(quantiles(one), axis, words) for one in layers],
    )


def _plain(value: float) -> str:
    """A round number without digits it does not need."""
    return compact(value) if abs(value) >= 10_000 else f"{value:,g}".replace("-", MINUS)


def _percent(value: float) -> str:
    return f"{value * 100:g}%"
