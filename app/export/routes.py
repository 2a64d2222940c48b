"""Neurons of a run as a stream: JSON lines, CSV, or a Parquet table of their statistics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.errors import Invalid
from app.export.choice import Choice, Indices, chosen
from app.export.lines import Notes, by_neuron, columns, neuron_lines, table_lines, table_parts
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
        with site.store.reading(model, number) as reading:
            yield from _parts(reading, format, indices, fields, notes)

    headers = {
        **NO_STORE,
        "Content-Disposition": f'attachment; filename="{model.model}-run-{number}.{format}"',
    }
    content: Iterator[bytes] = iter(()) if request.scope.get(WITHOUT_BODY) else stream()
    return StreamingResponse(content, headers=headers, media_type=_KINDS[format])


def _parts(
    reading: Reading, format: str, indices: Indices, fields: str | None, notes: Notes | None
) -> Iterator[bytes]:
    if format == "jsonl":
        yield from neuron_lines(reading, indices, fields, notes)
    elif format == "csv":
        yield from table_lines(reading, indices, fields, notes)
    else:
        yield _parquet(reading, indices, fields, notes)


def _parquet(reading: Reading, indices: Indices, fields: str | None, notes: Notes | None) -> bytes:
    """The statistics as one Parquet file."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    names = columns(reading, fields, notes)
    listed = [
        dict(zip(names, row, strict=True))
        for part in table_parts(reading, names, indices, notes)
        for row in part
    ]
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(listed), content)
    return content.getvalue()
