"""Answers of the API: an object or a list, as JSON or CSV, with all fields or those asked for."""

from __future__ import annotations

from fastapi import Request, Response
from pydantic import BaseModel

from app.web.accept import wants_csv
from app.web.fields import ALL, included, schema_of
from app.web.rows import csv_of
from app.web.site import site_of


def single(request: Request, page: BaseModel, fields: str | None) -> Response:
    """The answer with an object. Raises Invalid for an unknown field, NotAcceptable for CSV."""
    return site_of(request).json(request, page, include=included(type(page), fields))


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
