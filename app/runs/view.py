"""The page of a run: its provenance, flattened to tables of names and values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.drawing.numbers import MISSING, count, when
from app.schemas import Run
from app.web.frame import Frame

LISTED = 20
"""The most values of a list that the page shows: its JSON has all."""


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of a run's provenance."""

    title: str
    rows: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class RunContext:
    """What `runs/run.html` is rendered with."""

    frame: Frame
    page: Run
    tables: list[Table]


def tables(page: Run, layers: int) -> list[Table]:
    """The run's provenance as tables: a summary, single values, then each part, flattened.
    `layers`: how many have units."""
    first = Table(
        "What was indexed",
        [
            ("model", f"{page.model_id}" + (f" @ {page.revision}" if page.revision else "")),
            ("name", page.model),
            ("layers", count(layers)),
            (f"{page.units.noun}s", count(page.n_neurons)),
            ("hook point", page.hook_point),
            ("corpus", page.corpus),
            ("contexts", count(page.contexts)),
            ("tokens", count(page.tokens)),
            ("context length", f"{count(page.ctx_len)} tokens, including BOS"),
            (
                "sample",
                f"{count(page.sample.contexts)} contexts, {count(page.sample.positions)} positions",
            ),
            ("dtype", page.dtype),
            ("indexed", when(page.created_at)),
            ("content hash", page.content_hash),
        ],
    )
    single = Table("Provenance", [])
    parts: list[Table] = []
    for key, value in page.provenance.items():
        rows = flatten(value)
        if len(rows) == 1 and not rows[0][0]:
            single.rows.append((_words(key), rows[0][1]))
        else:
            parts.append(
                Table(_words(key).capitalize(), [(_words(path), text) for path, text in rows])
            )
    return [table for table in (first, single, *parts) if table.rows]


def flatten(value: Any, path: str = "") -> list[tuple[str, str]]:
    """A nested value as pairs (dotted path, text); a list of plain values is one pair."""
    if isinstance(value, Mapping):
        rows = [
            row
            for key, item in value.items()
            for row in flatten(item, f"{path}.{key}" if path else str(key))
        ]
        return rows or [(path, MISSING)]
    if isinstance(value, list | tuple):
        if any(isinstance(item, Mapping | list | tuple) for item in value):
            return [
                row
                for i, item in enumerate(value, 1)
                for row in flatten(item, f"{path}.{i}" if path else str(i))
            ]
        listed = ", ".join(_plain(item) for item in value[:LISTED]) or MISSING
        more = len(value) - LISTED
        return [(path, f"{listed} and {count(more)} more" if more > 0 else listed)]
    if path.rpartition(".")[2] == "seed":  # to be typed again: without separators of thousands
        return [(path, str(value))]
    return [(path, _plain(value))]


def _plain(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, datetime):
        return when(value)
    return str(value)


def _words(key: str) -> str:
    return key.replace("_", " ").replace("asked for", "requested").replace("asked", "requested")
