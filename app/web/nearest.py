"""The places nearest to one that does not exist, for error pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Row

from app.reading.runs import model_names, pick, runs_of, with_units
from app.reading.store import Store
from app.sets import ModelSet
from app.web import urls
from app.web.address import Address, parse
from indexer.store.units import HEADS

MOST = 6
_MODELS = 3
"""The most models that are offered."""
_LONGEST_SEARCH = 200
"""The most characters of a text that a search is offered for."""
Place = tuple[str, str]
"""A link: its words and its address."""


def nearest(store: Store, typed: str, page: ModelSet | None = None) -> list[Place]:
    """Existing pages near to what was typed on a page of the model and set `page`: at most `MOST`,
    nearest first. Raises Damaged."""
    parsed = parse(typed)
    # Where the last part of a path is no number, the parts before it can still name a layer.
    before = typed.rpartition("/")[0] if typed.startswith("/") else ""
    address = parsed or parse(before) or Address()
    model = page.model if page else None
    units = address.set
    if address.model is None and page is not None:
        units = units or page.set
    with store.connect() as connection:
        names = model_names(connection)
        if parsed is not None and parsed.model is None and model is None and len(names) == 1:
            (model,) = names
        close = _models(names, typed, address.model or model)
        runs = runs_of(connection, close)
        places: list[Place] = []
        for name in close:
            places += _inside(_existing(ModelSet(name, units), runs[name]), runs[name], address)
    if parsed is None and not typed.startswith("/") and len(typed) <= _LONGEST_SEARCH:
        # Words rather than an address: the corpus may have them.
        there = model if model in names else names[0] if len(names) == 1 else None
        if there is not None and re.search(r"\w", typed):
            places.insert(0, (f"search {there} for “{typed}”", urls.search(there, text=typed)))
    return list(dict.fromkeys(places))[:MOST]


def _models(names: list[str], typed: str, model: str | None) -> list[str]:
    """The models with a name like the requested name, the most similar first."""
    if model in names:
        return [str(model)]
    if model is None:
        words = re.findall(r"[\w.-]+", typed)
        model = words[0] if words else ""
    by_lower = {name.lower(): name for name in names}
    return [by_lower[one] for one in get_close_matches(model.lower(), by_lower, _MODELS, 0.5)]


def _existing(name: ModelSet, rows: Sequence[Row[Any]]) -> ModelSet:
    """The model's set of that name, or else its default set. `rows`: the model's runs."""
    return name if any(row.set_name == name.set for row in rows) else ModelSet(name.model)


def _inside(name: ModelSet, rows: Sequence[Row[Any]], address: Address) -> list[Place]:
    """The unit and layer nearest to an address in the default run of a set of units, the set and
    the model. Layers without units have no page, and attention heads have none of a layer."""
    run = pick(name, rows, None)
    if run.set_name == HEADS:
        name = ModelSet(name.model, HEADS)
    places: list[Place] = []
    present = with_units(run)
    if address.layer is not None and present:
        wanted = address.layer
        layer = min(present, key=lambda one: abs(one - wanted))
        if address.neuron is not None:
            neuron = min(address.neuron, run.widths[layer] - 1)
            places.append((f"{name} {layer}/{neuron}", urls.neuron(name, layer, neuron)))
        if run.set_name != HEADS:
            places.append((f"{name} layer {layer}", urls.layer(name, layer)))
    if name.set is not None:
        places.append((str(name), urls.model(name)))
    places.append((name.model, urls.model(name.model)))
    return places
