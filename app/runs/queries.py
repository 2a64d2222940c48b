"""Reads a run with its provenance."""

from __future__ import annotations

from sqlalchemy import select

from app.errors import NotFound
from app.reading.runs import MAX_INTEGER, RUNS, WHOLE, run_ref, sample_of
from app.reading.store import Store
from app.schemas import Run
from indexer.store import schema


def run(store: Store, run_id: int) -> Run:
    """A run with its provenance. Raises NotFound."""
    row = None
    if run_id <= MAX_INTEGER:
        with store.connect() as connection:
            row = connection.execute(
                select(*WHOLE.selected).where(RUNS.c.id == run_id, schema.READY)
            ).one_or_none()
    if row is None:
        raise NotFound(f"There is no run {run_id}.")
    WHOLE.check([row])
    return Run(
        **run_ref(row).model_dump(),
        n_layers=len(row.widths),
        n_neurons=sum(row.widths),
        sample=sample_of(row),
        provenance=row.provenance,
    )
