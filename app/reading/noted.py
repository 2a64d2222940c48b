"""Units of lists with their newest notes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from indexer.store.notes import Place

Page = TypeVar("Page", bound=BaseModel)
Newest = Callable[[Iterable[Place]], Mapping[Place, str]]
"""The text of the newest note on each of the units that have any."""


def noted(page: Page, newest: Newest, model: str, of: str = "items") -> Page:
    """A page whose units, the items of the field `of`, have their newest notes; `model` is the
    name of their model and set."""
    units = getattr(page, of)
    return page.model_copy(update={of: units_with_notes(units, newest, [model] * len(units))})


def units_with_notes(units: Sequence[Any], newest: Newest, models: Sequence[str]) -> list[Any]:
    """The units, each of the model beside it, with their newest notes."""
    places = [
        Place(model, unit.layer, unit.head if hasattr(unit, "head") else unit.neuron)
        for model, unit in zip(models, units, strict=True)
    ]
    texts = newest(set(places))
    return [
        unit.model_copy(update={"note": texts[place]}) if place in texts else unit
        for unit, place in zip(units, places, strict=True)
    ]
