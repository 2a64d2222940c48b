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
from indexer.store.units import HEADS, SET_NAME

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
    # Where a part of a path is no number, its digits and the parts before it can still name a
    # layer; where it has no number, a part such as `l1` can be a layer rather than a set.
    read = [parsed] if parsed else []
    if typed.startswith("/") and (parsed is None or parsed.layer is None):
        read = _read(typed)
    address = read[0] if read else Address()
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
            if parsed is None or parsed.layer is None:
                places += _pages_like(name, runs[name], typed)
            for one in read or [address]:
                places += _inside(_existing(ModelSet(name, units), runs[name]), runs[name], one)
            # Pages of several addresses: the units first, then layers, then the model.
            places.sort(key=lambda place: -place[1].count("/"))
    if parsed is None and not typed.startswith("/") and len(typed) <= _LONGEST_SEARCH:
        # Words rather than an address: the corpus may have them.
        there = model if model in names else names[0] if len(names) == 1 else None
        if there is not None and re.search(r"\w", typed):
            places.insert(0, (f"search {there} for “{typed}”", urls.search(there, text=typed)))
    return list(dict.fromkeys(places))[:MOST]


def _read(path: str) -> list[Address]:
    """What a path can mean that is no address: `/demo/L1N3` is read as typed into the go-to box,
    the two numbers of `/demo/0-1` are a layer and a unit, or two layers, those of `/demo/1/3-4` a
    layer and two units."""
    path = re.sub("/+", "/", path).strip("/")
    if typed := parse(path):
        return [typed]
    model, _, rest = path.partition("/")
    first, _, after = rest.partition("/")
    units = first if SET_NAME.fullmatch(first) else None
    numbered = (after if units else rest).split("/")
    numbers = [int(digits) for digits in re.findall("[0-9]{1,9}", "/".join(numbered))][:3]
    if not numbers:
        return [Address(model, set=units)]
    layer, *more = numbers
    neurons: list[int | None] = [*more] or [None]
    read = [Address(model, layer, neuron, set=units) for neuron in neurons]
    if more and len(numbered) == 1:
        read.append(Address(model, more[0], set=units))
    return read


def _pages_like(model: str, rows: Sequence[Row[Any]], path: str) -> list[Place]:
    """The set of units or page of a model whose name is like the second part of a path."""
    word = path.strip("/").partition("/")[2].partition("/")[0] if path.startswith("/") else ""
    pages = {
        "search": urls.search(model),
        "neurons": urls.search_numbers(model),
        "differences": urls.differences(model),
    }
    pages |= {row.set_name: urls.model(ModelSet(model, row.set_name)) for row in rows}
    close = get_close_matches(word.lower(), pages, 1, 0.6)
    return [(f"{model}/{one}", pages[one]) for one in close if one != word]


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
    """The model's set of that name or of one like it, or else its default set. `rows`: the model's
    runs."""
    close = get_close_matches(name.set or "", {row.set_name for row in rows}, 1, 0.6)
    return ModelSet(name.model, close[0]) if close else ModelSet(name.model)


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
