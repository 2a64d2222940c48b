"""From the text a reader typed to the page it names."""

from __future__ import annotations

from dataclasses import replace

from app.drawing.quoting import quoted
from app.errors import Invalid, NotFound
from app.models.schemas import ModelPage
from app.queries import Queries
from app.web import urls
from app.web.address import FORMS, Address, parse


def place(
    queries: Queries, text: str, model: str | None, run: int | None, view: str | None = None
) -> str:
    """The path of what `text` names, seen from a page of `model` and `run`, as `found` reads it."""
    return _path(found(queries, text, model, run), view)


def found(queries: Queries, text: str, model: str | None, run: int | None) -> Address:
    """What `text` names, seen from `model` and `run`: a model that is there, and its run if any.

    A run belongs to its model: it is left behind where the text names another, and gives way to the
    newest run at the hook point that the text names. Raises Invalid and NotFound.
    """
    address = parse(text)
    if address is None:
        raise Invalid(f"“{quoted(text)}” names no place here: write {FORMS}.")
    name = address.model or model or only_model(queries, text)
    wanted = address.run or (run if name == model else None)
    page = _model(queries, name, wanted, text)
    if address.hook_point is not None:
        at = queries.run_seen(name, wanted, [address.hook_point])
        wanted = wanted if at == page.run.id else at
    return replace(address, model=name, run=wanted)


def only_model(queries: Queries, text: str) -> str:
    """The model of a text that names none. Raises Invalid, NotFound: there has to be just one."""
    models = queries.models(2, None).items
    if not models:
        raise NotFound("There is nothing to go to yet: index a model first.")
    if len(models) > 1:
        raise Invalid(
            f"“{quoted(text)}” names no model, and there is more than one here: put its name "
            f"first, such as {models[0].model}/0/0."
        )
    return models[0].model


def _model(queries: Queries, name: str, run: int | None, text: str) -> ModelPage:
    try:
        return queries.model(name, run)
    except NotFound as error:
        if run is not None and queries.versions(name):
            raise  # the model is there, the run is not
        raise NotFound(
            f"“{quoted(text)}” leads nowhere, as there is no model “{quoted(name)}” here: "
            f"write {FORMS}."
        ) from error


def _path(place: Address, view: str | None) -> str:
    assert place.model is not None  # what is found has one
    if place.layer is None:
        return urls.model(place.model, run=place.run)
    if place.neuron is None:
        return urls.layer(place.model, place.layer, run=place.run)
    return urls.neuron(place.model, place.layer, place.neuron, run=place.run, view=view)
