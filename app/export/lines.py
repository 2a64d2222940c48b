"""Neurons as lines: the API's objects as JSON, statistics as CSV."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.export.choice import Indices
from app.export.scores import score_names, scores_of
from app.neurons.queries import neuron as read_neuron
from app.neurons.schemas import NeuronPage
from app.reading.store import Reading
from app.search.numbers import queries as numbers
from app.search.numbers.schemas import NumberRow
from app.web.fields import columns_of, csv_lines, included, names_of

Notes = Mapping[tuple[int, int], Sequence[dict[str, Any]]]
"""The notes of a model by layer and neuron."""
_ROWS = 1000


def neuron_lines(
    reading: Reading, indices: Indices, fields: str | None, notes: Notes
) -> Iterator[bytes]:
    """Each neuron as a line of JSON: the API's object, with its notes if it has any.

    Raises Invalid at once for a field that does not exist.
    """
    include = included(NeuronPage, fields)

    def lines() -> Iterator[bytes]:
        for index in indices.tolist():
            layer, neuron = reading.places.of(index)
            page = read_neuron(reading, layer, neuron)
            text = page.model_dump_json(include=include)
            written = notes.get((layer, neuron))
            if written and include is None:
                text = f'{text[:-1]},"notes":{json.dumps(written, ensure_ascii=False)}}}'
            yield f"{text}\n".encode()

    return lines()


def table_lines(reading: Reading, indices: Indices, fields: str | None) -> Iterator[bytes]:
    """The neurons' statistics as CSV with a head, in parts of a thousand rows.

    Raises Invalid at once for a column that does not exist.
    """
    names = names_of([*columns_of(NumberRow), *score_names(reading)], fields)
    scores = scores_of(reading)

    def parts() -> Iterator[bytes]:
        yield csv_lines([names])
        for begin in range(0, len(indices), _ROWS):
            chosen = indices[begin : begin + _ROWS].tolist()
            rows = zip(chosen, numbers.rows(reading, chosen), strict=True)
            yield csv_lines(
                [
                    [
                        scores[name][index] if name in scores else getattr(row, name)
                        for name in names
                    ]
                    for index, row in rows
                ]
            )

    return parts()
