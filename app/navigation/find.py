"""From the text a reader typed to the page it names."""

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
    """The path of the page that `text` names on a page of `model` and `run`. Raises as `find`."""
    place = find(store, text, model, run)
    assert place.model is not None  # `find` always names one
    if place.layer is None:
        return urls.model(place.model, run=place.run)
    if place.neuron is None:
        return urls.layer(place.model, place.layer, run=place.run)
    return urls.neuron(place.model, place.layer, place.neuron, run=place.run, view=view)


def find(store: Store, text: str, model: str | None, run: int | None) -> Address:
    """The place that `text` names on a page of `model` and `run`: its model, and its run if that
    has to be named. Layer and neuron are not looked up.

    The page's run is dropped if the text names another model, and replaced by the newest run at the
    hook point that the text names. Raises Invalid and NotFound.
    """
    address = parse(text)
    if address is None:
        raise Invalid(f"“{quoted(text)}” names no place here: write {FORMS}.")
    name = address.model or model or only_model(store, text)
    asked = address.run or (run if name == model else None)
    try:
        with store.reading(name, asked) as reading:
            if address.hook_point is not None:
                at = _run_at(reading, asked, address.hook_point)
                asked = asked if at == reading.run.id else at
    except NotFound as error:
        if store.versions(name):
            raise  # the model exists, the run does not
        raise NotFound(
            f"“{quoted(text)}” leads nowhere, as there is no model “{quoted(name)}” here: "
            f"write {FORMS}."
        ) from error
    return replace(address, model=name, run=asked)


def only_model(store: Store, text: str) -> str:
    """The model of a text that names none. Raises Invalid or NotFound unless there is just one."""
    with store.connect() as connection:
        names = model_names(connection)
    if not names:
        raise NotFound("There is nothing to go to yet: index a model first.")
    if len(names) > 1:
        raise Invalid(
            f"“{quoted(text)}” names no model, and there is more than one here: put its name "
            f"first, such as {names[0]}/0/0."
        )
    return names[0]


def _run_at(reading: Reading, run: int | None, hook_point: str) -> int:
    """The id of the run at a hook point. Raises NotFound."""
    name = reading.run.model
    rows = runs_of(reading.connection, [name])[name]
    return int(at_hook_points(name, rows, run, [hook_point]).id)
