"""Lists of neurons that become data frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from html import escape
from typing import Any, overload

from app.schemas import Schema
from indexer.errors import NeurariumError

_SHOWN = 20
"""Rows that a notebook shows."""


class Table(Sequence[Any]):
    """Rows of one kind, read when they are first needed, in the order of the page they are from.

    A row has the fields of the same object in JSON.
    """

    def __init__(self, title: str, read: Callable[[], Iterator[Schema]]) -> None:
        self._title = title
        self._read = read

    @cached_property
    def rows(self) -> list[Any]:
        """All rows. Raises NeurariumError."""
        return list(self._read())

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Any: ...
    @overload
    def __getitem__(self, at: slice) -> list[Any]: ...
    def __getitem__(self, at: int | slice) -> Any:
        return self.rows[at]

    def __repr__(self) -> str:
        return f"<{self._title}: {len(self):,} rows>"

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries, as in JSON."""
        return list(map(self.as_dict, self.rows))

    def as_dict(self, row: Any) -> dict[str, Any]:
        """A row as a dictionary."""
        made: dict[str, Any] = row.model_dump()
        return made

    def to_arrow(self) -> Any:
        """A `pyarrow.Table` with a column for each field."""
        import pyarrow as pa

        rows = self.to_dicts()
        # JSON leaves out what few rows have, such as a name: a column has them all.
        names = _columns(rows)
        return pa.table({name: [row.get(name) for row in rows] for name in names})

    def to_pandas(self) -> Any:
        """A pandas DataFrame. Raises NeurariumError without pandas."""
        _need("pandas")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """A polars DataFrame. Raises NeurariumError without polars."""
        polars = _need("polars")
        return polars.from_arrow(self.to_arrow())

    def _repr_html_(self) -> str:
        """A short table, for notebooks."""
        dicts = list(map(self.as_dict, self.rows[:_SHOWN]))
        names = _columns(dicts)
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_cell(row.get(name)))}</td>" for name in names) + "</tr>"
            for row in dicts
        )
        more = f"<p>{len(self) - len(dicts):,} more</p>" if len(self) > len(dicts) else ""
        return (
            f"<table><caption>{escape(self._title)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
        )


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """The fields that any row has; a note, which is long, last."""
    names = dict.fromkeys(name for row in rows for name in row)
    return sorted(names, key=lambda name: name == "note")


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def _need(library: str) -> Any:
    """A library that Neurarium does not install. Raises NeurariumError."""
    from importlib import import_module

    try:
        return import_module(library)
    except ModuleNotFoundError:
        raise NeurariumError(f"This needs {library}: pip install {library}.") from None
