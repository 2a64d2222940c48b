"""Picks fields of an answer by name: `layer,stats.max,examples.top.peak`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from app.drawing.quoting import quoted
from app.errors import Invalid

NAME = "name"
"""The column with units' names, which lists of units without names leave out."""
ALL = "__all__"
"""pydantic's word for every item of a list."""
_DEEPEST = 4
"""Objects around a field that is offered."""


def included(schema: type[BaseModel], fields: str | None) -> Any:
    """The `include` of pydantic for fields separated by commas, dots leading into objects and into
    the objects of lists; None: all fields. Raises Invalid for a field that does not exist."""
    if fields is None:
        return None
    tree: dict[str, Any] = {}
    for name in filter(None, (part.strip() for part in fields.split(","))):
        _add(tree, schema, name.split("."), name, schema)
    if not tree:
        raise Invalid(f"`fields` names nothing: choose from {_names(schema)}.")
    return tree


def columns_of(schema: type[BaseModel]) -> list[str]:
    """The fields of a row that fit in a column of a table: no objects and no dictionaries."""
    return [
        name
        for name, declared in schema.model_fields.items()
        if schema_of(declared.annotation)[0] is None and get_origin(declared.annotation) is not dict
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


def schema_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The schema in an annotation, and whether it is that of a list's items."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    in_list = get_origin(annotation) is list
    for part in get_args(annotation):
        inner, deeper = schema_of(part)
        if inner is not None:
            return inner, in_list or deeper
    return None, False


def _add(
    tree: dict[str, Any],
    schema: type[BaseModel],
    path: list[str],
    whole: str,
    root: type[BaseModel],
) -> None:
    first, *rest = path
    declared = schema.model_fields.get(first)
    if declared is None:
        instead = " or ".join(f"`{found}`" for found in _paths(root, path[-1]))
        known = f"write {instead}" if instead else f"choose from {_names(schema)}"
        raise Invalid(f"There is no field “{quoted(whole)}”: {known}.")
    if not rest:
        tree[first] = True
        return
    inner, in_list = schema_of(declared.annotation)
    if inner is None:
        raise Invalid(f"“{quoted(whole)}”: {first} has no fields of its own.")
    below = tree.setdefault(first, {ALL: {}} if in_list else {})
    if below is not True:
        _add(below[ALL] if in_list else below, inner, rest, whole, root)


def _paths(schema: type[BaseModel], name: str, before: tuple[str, ...] = ()) -> Iterator[str]:
    """The fields of this name inside the objects of a schema, with their paths."""
    if len(before) > _DEEPEST:
        return
    for field, declared in schema.model_fields.items():
        if field == name:
            yield ".".join((*before, field))
        inner, in_list = schema_of(declared.annotation)
        if inner is not None and not in_list:
            yield from _paths(inner, name, (*before, field))


def _names(schema: type[BaseModel]) -> str:
    return ", ".join(schema.model_fields)
