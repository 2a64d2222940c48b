"""The runs of a model: which of them a page shows, and whether it has a layer or a neuron."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from app.errors import NotFound
from app.schemas import RunRef, Sample, WholeRun
from indexer.store import schema

RUNS = schema.runs
MAX_INTEGER = 2**31 - 1
"""The largest integer that a column of type Integer can be compared with."""
_RUN_COLUMNS = [
    *(column for column in RUNS.c if column.name != "provenance"),
    schema.vocabularies.c.identity,
    RUNS.c.provenance[("corpus", "special_token_ids")].label("special_token_ids"),
    RUNS.c.provenance[("tokenizer", "first_space")].label("first_space"),
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


def pick(model: str, rows: Sequence[Row[Any]], run: int | None) -> Row[Any]:
    """The run to show of a model's runs, given newest first. Raises NotFound.

    Without `run`: the latest at the model's default hook point; the latest of all if there is none.
    """
    if not rows:
        raise NotFound(f"There is no model {model!r} here.")
    if run is None:
        return next((row for row in rows if row.is_default_hook_point), rows[0])
    named = [row for row in rows if row.id == run]
    if not named:
        numbers = ", ".join(str(row.id) for row in rows)
        raise NotFound(f"{model} has no run {run}: its runs are {numbers}.")
    return named[0]


def at_hook_points(
    model: str, rows: Sequence[Row[Any]], run: int | None, hook_points: Iterable[str]
) -> Row[Any]:
    """The run that an address means by naming hook points one after the other, starting from `run`:
    at each hook point the current run if it is there, else the newest there. Raises NotFound."""
    current = pick(model, rows, run)
    for hook_point in hook_points:
        if current.hook_point != hook_point:
            there = [row for row in rows if row.hook_point == hook_point]
            if not there:
                known = ", ".join(sorted({row.hook_point for row in rows}))
                raise NotFound(f"{model} has no run at {hook_point}: there is {known}.")
            current = there[0]
    return current


def has_layer(run: Row[Any], layer: int) -> bool:
    """Whether a run has such a layer."""
    return layer < len(run.widths)


def has_neuron(run: Row[Any], layer: int, neuron: int) -> bool:
    """Whether a run has such a neuron."""
    return has_layer(run, layer) and neuron < run.widths[layer]


def check_layer(run: Row[Any], layer: int) -> None:
    """Raises NotFound if a run has no such layer."""
    if not has_layer(run, layer):
        raise NotFound(
            f"{run.model} has layers 0 to {len(run.widths) - 1}: there is no layer {layer}."
        )


def check_neuron(run: Row[Any], layer: int, neuron: int) -> None:
    """Raises NotFound if a run has no such neuron."""
    check_layer(run, layer)
    if not has_neuron(run, layer, neuron):
        raise NotFound(
            f"Layer {layer} of {run.model} has neurons 0 to {run.widths[layer] - 1}: "
            f"there is no neuron {neuron}."
        )


def model_names(connection: Connection) -> list[str]:
    """All models' names. Sorted here: databases differ in how they order text."""
    return sorted(connection.scalars(select(RUNS.c.model).where(RUNS.c.ready).distinct()))


def sample_of(run: Row[Any]) -> Sample:
    """How large a run's sample is."""
    return Sample(contexts=run.sample_contexts, positions=run.sample_positions)


def whole_run(row: Row[Any]) -> WholeRun:
    """A run with its size: what searches of all its neurons name."""
    return WholeRun(
        model=row.model,
        run=run_ref(row),
        sample=sample_of(row),
        n_layers=len(row.widths),
        n_neurons=sum(row.widths),
        sources=row.sources,
    )
