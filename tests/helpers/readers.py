"""Pages read from a store in one call: each opens the run and asks the wing's own query."""

from __future__ import annotations

from typing import Any

from app.models import queries as models
from app.models.schemas import LayerPage, LayerPicture, ModelPage
from app.neurons import queries as neurons
from app.neurons.schemas import NeuronPage
from app.reading.store import Store


def model(store: Store, name: str, run: int | None) -> ModelPage:
    """A model's page."""
    with store.reading(name, run) as reading:
        return models.model(reading)


def layer(store: Store, name: str, layer: int, run: int | None, *rest: Any) -> LayerPage:
    """A layer's page; `rest`: sort, order, limit, cursor."""
    with store.reading(name, run) as reading:
        return models.layer(reading, layer, *rest)


def picture(store: Store, name: str, layer: int, run: int | None, *rest: Any) -> LayerPicture:
    """A layer's picture; `rest`: statistic, first neuron."""
    with store.reading(name, run) as reading:
        return models.picture(reading, layer, *rest)


def neuron(
    store: Store, name: str, layer: int, neuron: int, run: int | None, reach: int | None = None
) -> NeuronPage:
    """A neuron's page."""
    with store.reading(name, run) as reading:
        return neurons.neuron(reading, layer, neuron, reach)
