"""Picks a random neuron."""

from __future__ import annotations

import random

from app.errors import NotFound
from app.reading.runs import model_names
from app.reading.store import Store
from app.schemas import NeuronRef
from app.sets import ModelSet


def random_neuron(
    store: Store, name: ModelSet | None, layer: int | None, run: int | None
) -> tuple[ModelSet, NeuronRef]:
    """The model and place of a neuron, drawn uniformly from all models, from a model, or from a
    layer. Raises NotFound."""
    if name is None:
        with store.connect() as connection:
            names = model_names(connection)
            if not names:
                raise NotFound("There are no models yet: index a model first.")
            sizes = [len(store.open(connection, model, None).places) for model in names]
        name, run = ModelSet(random.choices(names, weights=sizes)[0]), None
    with store.reading(name, run) as reading:
        if layer is None:
            at = reading.places.of(random.randrange(len(reading.places)))
        else:
            reading.check_layer(layer)
            at = layer, random.randrange(reading.run.widths[layer])
    return name, NeuronRef(layer=at[0], neuron=at[1])
