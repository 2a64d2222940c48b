"""Which run of a model is shown, and whether it has a layer or a neuron."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from app.errors import NotFound
from app.schemas import NumberGround, RunRef, Sample
from indexer.store import schema

RUNS = schema.runs
MAX_INTEGER = 2**31 - 1

RUNS = schema.runs
_RUN_COLUMNS = [
    *(column for column in RUNS.c if column.name != "provenance"),
    schema.vocabularies.c.identity,
]
# Built once: SQLAlchemy takes longer to put a statement together than SQLite to answer it.
_RUNS_OF_MODELS = (
    select(*_RUN_COLUMNS)
    .join(schema.vocabularies)
    .where(RUNS.c.model.in_(bindparam("models", expanding=True)), RUNS.c.ready)
    .order_by(RUNS.c.id.desc())
)


def run_ref(row: Row[Any]) -> RunRef:
    """A row of `runs` in short."""
    return RunRef(
        id=row.id,
        model=row.model,
        model_id=row.model_id,
        revision=row.revision,
        hook_point=row.hook_point,
        corpus=row.corpus,
        dtype=row.dtype,
        contexts=row.contexts,
        tokens=row.tokens,
        ctx_len=row.ctx_len,
        created_at=row.created_at,
        content_hash=row.content_hash,
    )


def runs_of(connection: Connection, models: Iterable[str]) -> dict[str, list[Row[Any]]]:
    """The runs of each model that has any, newest first."""
    # PostgreSQL takes no NUL in a text, so no name has one.
    known = sorted({model for model in models if "\0" not in model})
    found: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(_RUNS_OF_MODELS, {"models": known}).all() if known else ():
        found.setdefault(row.model, []).append(row)
    return found


def pick(connection: Connection, model: str, run: int | None) -> tuple[Row[Any], list[Row[Any]]]:
    """The run to show and the model's others, newest first. Raises NotFound."""
    rows = runs_of(connection, [model]).get(model, [])
    shown = picked(model, rows, run)
    return shown, [row for row in rows if row.id != shown.id]


def picked(model: str, rows: Sequence[Row[Any]], run: int | None) -> Row[Any]:
    """The run to show of a model's. Raises NotFound.

    Without `run`: the latest at the default hook point; the latest of all, if there is none.
    """
    if not rows:
        raise NotFound(f"There is no model {model!r} here.")
    if run is None:
        return next((row for row in rows if row.is_default_hook_point), rows[0])
    named = [row for row in rows if row.id == run]
    if not named:
        there = ", ".join(str(row.id) for row in rows)
        raise NotFound(f"{model} has no run {run}: its runs are {there}.")
    return named[0]


def seen(
    model: str, rows: Sequence[Row[Any]], run: int | None, hook_points: Iterable[str]
) -> Row[Any]:
    """The run that is meant, seen from one, by hook points that are named one after the other: it
    stays where it is at each, and else goes on to the newest there. Raises NotFound."""
    found = picked(model, rows, run)
    for hook_point in hook_points:
        if found.hook_point != hook_point:
            at = [row for row in rows if row.hook_point == hook_point]
            if not at:
                there = ", ".join(sorted({row.hook_point for row in rows}))
                raise NotFound(f"{model} has no run at {hook_point}: there is {there}.")
            found = at[0]
    return found


def check_layer(run: Row[Any], layer: int) -> None:
    """Raises NotFound where a run has no such layer."""
    if layer >= len(run.widths):
        raise NotFound(
            f"{run.model} has layers 0 to {len(run.widths) - 1}: there is no layer {layer}."
        )


def flat(run: Row[Any], layer: int, neuron: int) -> int:
    """A neuron's index counted over all layers. Raises NotFound."""
    check_layer(run, layer)
    if neuron >= run.widths[layer]:
        raise NotFound(
            f"Layer {layer} of {run.model} has neurons 0 to {run.widths[layer] - 1}: "
            f"there is no neuron {neuron}."
        )
    return int(sum(run.widths[:layer]) + neuron)


def model_names(connection: Connection) -> list[str]:
    """All models' names. Sorted here: databases differ in how they order text."""
    return sorted(connection.scalars(select(RUNS.c.model).where(RUNS.c.ready).distinct()))


def sample_of(run: Row[Any]) -> Sample:
    return Sample(contexts=run.sample_contexts, positions=run.sample_positions)


def number_ground(run: Row[Any]) -> NumberGround:
    return NumberGround(
        model=run.model,
        run=run_ref(run),
        sample=sample_of(run),
        n_layers=len(run.widths),
        n_neurons=sum(run.widths),
        sources=run.sources,
    )
