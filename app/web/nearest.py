"""The places nearest to one that does not exist, for error pages."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Row

from app.reading.runs import model_names, pick, runs_of
from app.reading.store import Store
from app.web import urls
from app.web.address import Address, parse

MOST = 6
_MODELS = 3
"""The most models that are offered."""
_LONGEST_SEARCH = 200
"""The most characters of a text that a search is offered for."""
Place = tuple[str, str]
"""A link: its words and its address."""


def nearest(store: Store, typed: str, model: str | None = None) -> list[Place]:
    """Existing pages near to what was typed on a page of `model`: at most `MOST`, nearest first."""
    parsed = parse(typed)
    # Where the last part of a path is no number, the parts before it can still name a layer.
    before = typed.rpartition("/")[0] if typed.startswith("/") else ""
    address = parsed or parse(before) or Address()
    with store.connect() as connection:
        names = model_names(connection)
        if parsed is not None and parsed.model is None and model is None and len(names) == 1:
            (model,) = names
        close = _models(names, typed, address.model or model)
        runs = runs_of(connection, close)
        places: list[Place] = []
        for name in close:
            places += _inside(pick(name, runs[name], None), address)
    if parsed is None and not typed.startswith("/") and len(typed) <= _LONGEST_SEARCH:
        # Words rather than an address: the corpus may have them.
        there = model if model in names else names[0] if len(names) == 1 else None
        if there is not None and re.search(r"\w", typed):
            places.insert(0, (f"search {there} for “{typed}”", urls.search(there, text=typed)))
    return list(dict.fromkeys(places))[:MOST]


def _models(names: list[str], typed: str, model: str | None) -> list[str]:
    """The models whose names are like the one that was meant, the most similar first."""
    if model in names:
        return [str(model)]
    if model is None:
        words = re.findall(r"[\w.-]+", typed)
        model = words[0] if words else ""
    by_lower = {name.lower(): name for name in names}
    return [by_lower[one] for one in get_close_matches(model.lower(), by_lower, _MODELS, 0.5)]


def _inside(run: Row[Any], address: Address) -> list[Place]:
    """The neuron, layer and model nearest to an address, in a model's default run."""
    places: list[Place] = []
    if address.layer is not None:
        layer = min(address.layer, len(run.widths) - 1)
        if address.neuron is not None:
            neuron = min(address.neuron, run.widths[layer] - 1)
            name = f"{run.model} {layer}/{neuron}"
            places.append((name, urls.neuron(run.model, layer, neuron)))
        places.append((f"{run.model} layer {layer}", urls.layer(run.model, layer)))
    places.append((str(run.model), urls.model(run.model)))
    return places
