"""Finds the page that a typed text names."""

from __future__ import annotations

from dataclasses import replace

from app.drawing.quoting import quoted
from app.errors import Invalid, NotFound
from app.reading.runs import at_hook_points, model_names, runs_of
from app.reading.store import Reading, Store
from app.reading.unit_names import unit_names
from app.sets import ModelSet, name_of
from app.web import urls
from app.web.address import FORMS, Address, parse


def page_of(
    store: Store, text: str, model: ModelSet | None, run: int | None, view: str | None = None
) -> str:
    """The path of the page that `text` names; arguments and errors as in `find`. What is no address
    may be the name of a unit of the model's dictionaries. Raises NotFound also for a layer or a
    unit that the model has not, so that what was typed stays in the box."""
    try:
        place = find(store, text, model, run)
    except (Invalid, NotFound):
        named = named_unit(store, text, model)
        if named is None:
            raise
        return urls.neuron(*named, view=view)
    assert place.model is not None  # `find` always names one
    name = ModelSet(place.model, place.set)
    if place.layer is None:
        return urls.model(name, run=place.run)
    with store.reading(name, place.run) as reading:
        reading.check_layer(place.layer)
        if place.neuron is not None:
            reading.index_of(place.layer, place.neuron)
    if place.neuron is None:
        return urls.layer(name, place.layer, run=place.run)
    return urls.neuron(name, place.layer, place.neuron, run=place.run, view=view)


def named_unit(store: Store, text: str, page: ModelSet | None) -> tuple[ModelSet, int, int] | None:
    """The unit whose name in its dictionary's file is `text`, in upper or lower case: of the set of
    `page` first, then of the model's others; of every model without a page. Raises Damaged."""
    with store.connect() as connection:
        for model in model_names(connection):
            if page is not None and model != page.model:
                continue
            reading = store.open(connection, model, None)
            own = [row for row in reading.sets if page and row.set_name == page.set]
            for row in [*own, *reading.sets]:
                there = replace(reading, run=row, others=[])
                index = unit_names(there).by_name.get(text.strip().casefold())
                if index is not None:
                    return name_of(model, row.set_name), *there.places.of(index)
    return None


def find(store: Store, text: str, page: ModelSet | None, run: int | None) -> Address:
    """The place that `text` names, typed on a page of the model and set
    `page` and of `run`. Layer and neuron are not
    looked up.

    The page's run counts only if the text names no other model, and a hook point in the text picks
    the newest run there. Without a run the result means the default run. Raises Invalid and
    NotFound.
    """
    address = parse(text)
    if address is None:
        raise Invalid(f"Couldn’t find “{quoted(text)}”. Try {FORMS}.")
    model = address.model or (page.model if page else only_model(store, text))
    units = address.set
    if address.model is None and page is not None:
        units = units or page.set
    name = ModelSet(model, units)
    run = address.run or (run if name == page else None)
    try:
        with store.reading(name, run) as reading:
            if address.hook_point is not None:
                there = _run_at(reading, name, run, address.hook_point)
                run = run if there == reading.run.id else there
    except NotFound as error:
        if store.versions(model):
            raise  # the model exists, the set or the run does not
        raise NotFound(
            f"Couldn’t find “{quoted(text)}”: there is no model “{quoted(model)}”. Try {FORMS}."
        ) from error
    return replace(address, model=model, set=units, run=run)


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


def _run_at(reading: Reading, name: ModelSet, run: int | None, hook_point: str) -> int:
    """The id of the run at a hook point. Raises NotFound."""
    rows = runs_of(reading.connection, [name.model])[name.model]
    return int(at_hook_points(name, rows, run, [hook_point]).id)
