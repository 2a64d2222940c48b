"""Objects of an answer as the rows of a CSV file: what is inside an object is a column of its own,
`neuron.max`."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, get_origin

from pydantic import BaseModel

from app.schemas import TextPart
from app.web.fields import included, schema_of

Row = dict[str, Any]
NOTE = "note"
"""The newest note on a unit, in lists."""


def csv_lines(rows: Sequence[Sequence[Any]]) -> bytes:
    """Rows as lines of CSV; None is empty."""
    lines: list[str] = []
    # csv.writer quotes a cell with a line break only if the break is in its own line terminator.
    end = "\r\n"
    csv.writer(SimpleNamespace(write=lines.append), lineterminator=end).writerows(rows)
    return "".join(f"{line.removesuffix(end)}\n" for line in lines).encode()


def csv_of(schema: type[BaseModel], items: Sequence[BaseModel], fields: str | None) -> bytes:
    """The items of a list as CSV with a head.

    Objects and dictionaries become columns `object.field`; a list is a cell of JSON, except that
    the parts of a text are the text. Left out are an object, and a field absent from JSON if
    empty, that no item has, unless `fields` names them. Raises Invalid for an unknown field.
    """
    include = included(schema, fields)
    rows = [item.model_dump(mode="json", include=include) for item in items]
    columns = _columns(schema, rows, True if include is None else include)
    names = list(columns)
    return csv_lines([names, *zip(*columns.values(), strict=True)])


def _columns(schema: type[BaseModel], rows: Sequence[Row], include: Any) -> dict[str, list[Any]]:
    """The cells of each column. `include`: as `fields.included`, or True for all fields."""
    columns: dict[str, list[Any]] = {}
    # A note last: it is long, and only servers with notes have it.
    for name, declared in sorted(schema.model_fields.items(), key=lambda field: field[0] == NOTE):
        if include is not True and name not in include:
            continue
        values = [row.get(name) for row in rows]
        below = True if include is True else include[name]
        empty = include is True and all(value is None for value in values)
        inner, in_list = schema_of(declared.annotation)
        if inner is not None and not in_list:
            if not empty or not rows:
                inside = _columns(inner, [value or {} for value in values], below)
                columns |= {f"{name}.{key}": cells for key, cells in inside.items()}
        elif get_origin(declared.annotation) is dict:
            for key in dict.fromkeys(key for value in values for key in value or {}):
                columns[f"{name}.{key}"] = [(value or {}).get(key) for value in values]
        elif inner is not None and issubclass(inner, TextPart):
            columns[name] = ["".join(part["text"] for part in value or ()) for value in values]
        elif not (empty and declared.exclude_if):
            columns[name] = list(map(_cell, values))
    return columns


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
