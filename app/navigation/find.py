"""Finds the page that a typed text names."""

from __future__ import annotations

from dataclasses import replace

from app.drawing.quoting import quoted
from app.errors import Invalid, NotFound
from app.reading.runs import at_hook_points, model_names, runs_of
from app.reading.store import Reading, Store
from app.web import urls
from app.web.address import FORMS, Address, parse


def page_of(
    store: Store, text: str, model: str | None, run: int | None, view: str | None = None
) -> str:
    """The path of the page that `text` names; arguments and errors as in `find`."""
    place = find(store, text, model, run)
    assert place.model is not None  # `find` always names one
    if place.layer is None:
        return urls.model(place.model, run=place.run)
    if place.neuron is None:
        return urls.layer(place.model, place.layer, run=place.run)
    return urls.neuron(place.model, place.layer, place.neuron, run=place.run, view=view)


def find(store: Store, text: str, model: str | None, run: int | None) -> Address:
    """The place that `text` names, typed on a page of `model` and `run`. Layer and neuron are not
    looked up.

    The page's run counts only if the text names no other model, and a hook point in the text picks
    the newest run there. Without a run the result means the default run. Raises Invalid and
    NotFound.
    """
    address = parse(text)
    if address is None:
        raise Invalid(f"Couldn’t find “{quoted(text)}”. Try {FORMS}.")
    name = address.model or model or only_model(store, text)
    run = address.run or (run if name == model else None)
    try:
        with store.reading(name, run) as reading:
            if address.hook_point is not None:
                there = _run_at(reading, run, address.hook_point)
                run = run if there == reading.run.id else there
    except NotFound as error:
        if store.versions(name):
            raise  # the model exists, the run does not
        raise NotFound(
            f"Couldn’t find “{quoted(text)}”: there is no model “{quoted(name)}”. Try {FORMS}."
        ) from error
    return replace(address, model=name, run=run)


def only_model(store: Store, text: str) -> str:
    """The only model, for a text without one. Raises NotFound or Invalid if that is not clear."""
    with store.connect() as connection:
        names = model_names(connection)
    if not names:
        raise NotFound("There are no models yet: index a model first.")
    if len(names) > 1:
        raise Invalid(
            f"“{quoted(text)}” has no model, and there is more than one: put a model's name "
            f"first, such as {names[0]}/0/0."
        )
    return names[0]


def _run_at(reading: Reading, run: int | None, hook_point: str) -> int:
    """The id of the run at a hook point. Raises NotFound."""
    name = reading.run.model
    rows = runs_of(reading.connection, [name])[name]
    return int(at_hook_points(name, rows, run, [hook_point]).id)
