"""Answers of the API: an object or a list, as JSON or CSV, with all fields or those asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel

from app.reading.noted import Page, noted, units_with_notes
from app.web.accept import wants_csv
from app.web.csv import csv_of
from app.web.fields import ALL, included, schema_of
from app.web.paths import Name
from app.web.site import site_of


def single(request: Request, page: BaseModel, fields: str | None) -> Response:
    """The answer with an object. Raises Invalid for an unknown field, NotAcceptable for CSV."""
    return site_of(request).json(request, page, include=included(type(page), fields))


def with_notes(request: Request, page: Page, name: Name, *, of: str = "items") -> Page:
    """A page whose units, of one model, have their newest notes, on a server with notes."""
    newest = site_of(request).newest_notes
    return page if newest is None else noted(page, newest, str(name), of)


def with_inner_notes(request: Request, page: Page, models: Sequence[str]) -> Page:
    """A page whose items each have a `neuron`, or None in its place, of the model beside it: with
    its newest note, on a server with notes."""
    newest = site_of(request).newest_notes
    if newest is None:
        return page
    items: list[Any] = getattr(page, "items")  # noqa: B009
    there = [at for at, item in enumerate(items) if item.neuron is not None]
    units = units_with_notes(
        [items[at].neuron for at in there], newest, [models[at] for at in there]
    )
    made = dict(zip(there, units, strict=True))
    noted_items = [
        item.model_copy(update={"neuron": made.get(at)}) for at, item in enumerate(items)
    ]
    return page.model_copy(update={"items": noted_items})


def listing(
    request: Request, page: BaseModel, fields: str | None, *, of: str = "items"
) -> Response:
    """The answer with an object around a list, the field `of`: the whole object as JSON, or the
    list alone as CSV if the request prefers it. `fields` picks fields of the list's items. Raises
    Invalid for an unknown field."""
    site, declared = site_of(request), type(page).model_fields
    schema, _ = schema_of(declared[of].annotation)
    assert schema is not None
    if wants_csv(request):
        return site.csv(request, csv_of(schema, getattr(page, of), fields))
    include = included(schema, fields)
    whole = include and dict.fromkeys(declared, True) | {of: {ALL: include}}
    response = site.json(request, page, include=whole)
    response.headers["Vary"] = "Accept"
    return response
