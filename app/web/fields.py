"""Picks fields of an answer by name, `layer,stats.max,examples.top.peak`, and lists as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from fastapi import Request
from pydantic import BaseModel

from app.drawing.quoting import quoted
from app.errors import Invalid

NAME = "name"
"""The column with units' names, which lists of units without names leave out."""
ALL = "__all__"
"""pydantic's word for every item of a list."""


def included(schema: type[BaseModel], fields: str | None) -> Any:
    """The `include` of pydantic for fields separated by commas, dots leading into objects and into
    the objects of lists; None: all fields. Raises Invalid for a field that does not exist."""
    if fields is None:
        return None
    tree: dict[str, Any] = {}
    for name in filter(None, (part.strip() for part in fields.split(","))):
        _add(tree, schema, name.split("."), name)
    if not tree:
        raise Invalid(f"`fields` names nothing: choose from {_names(schema)}.")
    return tree


def columns_of(schema: type[BaseModel]) -> list[str]:
    """The fields of a row that fit in a column of a table: no objects and no dictionaries."""
    return [
        name
        for name, declared in schema.model_fields.items()
        if _schema_of(declared.annotation)[0] is None
        and get_origin(declared.annotation) is not dict
    ]


def names_of(known: Sequence[str], fields: str | None) -> list[str]:
    """The columns that `fields` names, in the order of `known`; None: all. Raises Invalid."""
    if fields is None:
        return list(known)
    wanted = [name for name in (part.strip() for part in fields.split(",")) if name]
    for name in wanted:
        if name not in known:
            raise Invalid(f"There is no field “{quoted(name)}”: choose from {', '.join(known)}.")
    if not wanted:
        raise Invalid(f"`fields` names nothing: choose from {', '.join(known)}.")
    return [name for name in known if name in wanted]


def csv_lines(rows: Sequence[Sequence[Any]]) -> bytes:
    """Rows as lines of CSV; None is empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def listing_csv(schema: type[BaseModel], items: Sequence[BaseModel], fields: str | None) -> bytes:
    """The items of a list as CSV with a head. Raises Invalid for a field that does not exist."""
    names = names_of(columns_of(schema), fields)
    if fields is None and all(getattr(item, NAME, None) is None for item in items):
        names = [name for name in names if name != NAME]
    return csv_lines([names, *([getattr(item, name) for name in names] for item in items)])


def listed(schema: type[BaseModel], fields: str | None) -> Any:
    """As `included`, for every item of a list; None: all fields. Raises Invalid."""
    include = included(schema, fields)
    return None if include is None else {ALL: include}


def accepted(request: Request) -> list[str]:
    """[CSV] if a request prefers CSV to JSON, else nothing: also part of the ETag."""
    accept = request.headers.get("accept", "")
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    known = [kind for kind in kinds if kind in ("text/csv", "application/json", "text/html")]
    return ["text/csv"] if known[:1] == ["text/csv"] else []


def _add(tree: dict[str, Any], schema: type[BaseModel], path: list[str], whole: str) -> None:
    first, *rest = path
    declared = schema.model_fields.get(first)
    if declared is None:
        raise Invalid(f"There is no field “{quoted(whole)}”: choose from {_names(schema)}.")
    if not rest:
        tree[first] = True
        return
    inner, in_list = _schema_of(declared.annotation)
    if inner is None:
        raise Invalid(f"“{quoted(whole)}”: {first} has no fields of its own.")
    below = tree.setdefault(first, {ALL: {}} if in_list else {})
    if below is not True:
        _add(below[ALL] if in_list else below, inner, rest, whole)


def _schema_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The schema in an annotation, and whether it is that of a list's items."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    in_list = get_origin(annotation) is list
    for part in get_args(annotation):
        inner, deeper = _schema_of(part)
        if inner is not None:
            return inner, in_list or deeper
    return None, False


def _names(schema: type[BaseModel]) -> str:
    return ", ".join(schema.model_fields)
