"""Neurons of a run as a stream: JSON lines, CSV, or a Parquet table of their statistics."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.errors import Invalid
from app.export.choice import Choice, Indices, chosen
from app.export.lines import Notes, by_neuron, columns, neuron_lines, table_lines, table_parts
from app.export.table_stream import ParquetParts
from app.neurons.schemas import NeuronPage
from app.notes.service import ServedNotes
from app.reading.store import Reading
from app.web.fields import included
from app.web.middleware import WITHOUT_BODY
from app.web.params import ERRORS, Fields, InSet, RunId
from app.web.site import CSV, NO_STORE, site_of

router = APIRouter()

MOST = {"jsonl": 2_000, "csv": 100_000, "parquet": 100_000}
"""The most neurons of one stream, by format: `neurarium export` has no such bound."""
_AT_ONCE = {"jsonl": 20, "csv": 1_000, "parquet": 1_000}
"""Units that are read at once, by format."""
_KINDS = {"jsonl": "application/x-ndjson", "csv": CSV, "parquet": "application/vnd.apache.parquet"}


@router.get(
    "/api/v1/models/{model}/export",
    responses={**ERRORS, 200: {"content": {kind: {} for kind in _KINDS.values()}}},
    response_class=StreamingResponse,
    tags=["api"],
)
def export(
    request: Request,
    model: InSet,
    format: Annotated[Literal["jsonl", "csv", "parquet"], Query()] = "jsonl",
    layers: Annotated[str | None, Query(description="Only these layers: `0-2,5`.")] = None,
    q: Annotated[
        str | None, Query(description="Only the neurons of a search by statistics.")
    ] = None,
    n: Annotated[str | None, Query(description="Only these neurons: `1/10,1/349`.")] = None,
    fields: Fields = None,
    run: RunId = None,
) -> Response:
    """Neurons as a file, streamed: whole objects as JSON lines, statistics as CSV or Parquet."""
    site = site_of(request)
    with site.store.reading(model, run) as reading:
        indices, number = chosen(reading, Choice(layers, q, n)), reading.run.id
        noun = reading.units.noun
        if len(indices) > MOST[format]:
            raise Invalid(
                f"These are {len(indices):,} {noun}s, and one answer has at most "
                f"{MOST[format]:,} as {format}: choose fewer by layers, q or n, or use `neurarium "
                "export`."
            )
        # Mistakes are answered before the stream begins.
        if format == "jsonl":
            included(NeuronPage, fields)
        else:
            columns(reading, fields, None)

    served: ServedNotes | None = request.app.state.notes
    notes = None if served is None else by_neuron(served.of_model(str(model)))

    def stream() -> Iterator[bytes]:
        # A slow visitor holds no connection to the database: each part is read at once.
        parts = _Parts(fields, notes, format)
        for begin in range(0, len(indices), _AT_ONCE[format]):
            with site.store.reading(model, number) as reading:
                part = parts.next(reading, indices[begin : begin + _AT_ONCE[format]])
            yield part
        yield parts.end()

    headers = {
        **NO_STORE,
        "Content-Disposition": f'attachment; filename="{model.model}-run-{number}.{format}"',
    }
    content: Iterator[bytes] = iter(()) if request.scope.get(WITHOUT_BODY) else stream()
    return StreamingResponse(content, headers=headers, media_type=_KINDS[format])


class _Parts:
    """One stream in parts, each the bytes of some units."""

    def __init__(self, fields: str | None, notes: Notes | None, format: str) -> None:
        self._fields, self._notes, self._format = fields, notes, format
        self._table: ParquetParts | None = None
        self._begun = False

    def next(self, reading: Reading, indices: Indices) -> bytes:
        """The bytes of the next units."""
        if self._format == "jsonl":
            return b"".join(neuron_lines(reading, indices, self._fields, self._notes))
        if self._format == "csv":
            lines = table_lines(reading, indices, self._fields, self._notes)
            if self._begun:
                next(lines)  # the head
            self._begun = True
            return b"".join(lines)
        names = columns(reading, self._fields, self._notes)
        if self._table is None:
            self._table = ParquetParts(names)
        rows = chain.from_iterable(table_parts(reading, names, indices, self._notes))
        return self._table.part(rows)

    def end(self) -> bytes:
        """What follows the last unit."""
        return b"" if self._table is None else self._table.end()
