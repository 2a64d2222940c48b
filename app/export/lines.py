"""Neurons as lines: the API's objects as JSON, statistics as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from app.export.choice import Indices
from app.export.scores import score_names, scores_of
from app.neurons.queries import neuron as read_neuron
from app.neurons.schemas import NeuronPage
from app.reading.store import Reading
from app.reading.unit_names import has_names
from app.schemas import Note
from app.search.numbers import queries as numbers
from app.search.numbers.schemas import NumberRow
from app.web.csv import csv_lines
from app.web.fields import NAME, columns_of, included, names_of

Notes = Mapping[tuple[int, int], Sequence[Note]]
"""The notes of a model by layer and neuron, newest first."""
NOTE = "note"
"""The column with newest notes, which tables of units without notes leave out."""
_ROWS = 1000


def neuron_lines(
    reading: Reading, indices: Indices, fields: str | None, notes: Notes | None
) -> Iterator[bytes]:
    """Each neuron as a line of JSON: the API's object, with all its notes; None: there are none.

    Raises Invalid at once for a field that does not exist.
    """
    include = included(NeuronPage, fields)

    def lines() -> Iterator[bytes]:
        for index in indices.tolist():
            layer, neuron = reading.places.of(index)
            page = read_neuron(reading, layer, neuron)
            if notes is not None:
                page = page.model_copy(update={"notes": notes.get((layer, neuron), [])})
            yield f"{page.model_dump_json(include=include)}\n".encode()

    return lines()


def by_neuron(notes: Iterable[Note]) -> Notes:
    """Notes by their neuron, in their order."""
    by_unit: dict[tuple[int, int], list[Note]] = {}
    for note in notes:
        by_unit.setdefault((note.layer, note.neuron), []).append(note)
    return by_unit


def columns(reading: Reading, fields: str | None, notes: Notes | None) -> list[str]:
    """The columns of a table of statistics, with the scores of attention heads after them and
    the note last; `fields` None: all that the run has. Raises Invalid for a column that does not
    exist."""
    names = names_of([*columns_of(NumberRow), *score_names(reading)], fields)
    if fields is None and not has_names(reading):
        names.remove(NAME)
    if fields is None and not notes:
        names.remove(NOTE)
    return sorted(names, key=lambda name: name == NOTE)  # the longest column last


def table_parts(
    reading: Reading, names: Sequence[str], indices: Indices, notes: Notes | None
) -> Iterator[list[list[Any]]]:
    """The columns `names` of the units' statistics, in parts of a thousand rows."""
    scores = scores_of(reading)
    for begin in range(0, len(indices), _ROWS):
        chosen = indices[begin : begin + _ROWS].tolist()
        rows = zip(chosen, _rows(reading, chosen, notes), strict=True)
        yield [
            [scores[name][index] if name in scores else getattr(row, name) for name in names]
            for index, row in rows
        ]


def table_lines(
    reading: Reading, indices: Indices, fields: str | None, notes: Notes | None
) -> Iterator[bytes]:
    """The neurons' statistics as CSV with a head, in parts of a thousand rows.

    Raises Invalid at once for a column that does not exist.
    """
    names = columns(reading, fields, notes)

    def parts() -> Iterator[bytes]:
        yield csv_lines([names])
        yield from map(csv_lines, table_parts(reading, names, indices, notes))

    return parts()


def _rows(reading: Reading, indices: list[int], notes: Notes | None) -> list[NumberRow]:
    """The statistics of neurons, each with its newest note."""
    rows = numbers.rows(reading, indices)
    if not notes:
        return rows
    newest = (notes.get((row.layer, row.neuron)) for row in rows)
    return [
        row.model_copy(update={NOTE: of_row[0].text}) if of_row else row
        for row, of_row in zip(rows, newest, strict=True)
    ]
