"""The runs of a model: which run a page shows, and which layers and neurons it has."""

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
    """A row of the table `runs` as JSON."""
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
    """The runs of each of the models, newest first; models without a run are left out."""
    # PostgreSQL rejects text with a NUL, and no name has one.
    names = sorted({model for model in models if "\0" not in model})
    by_model: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(_RUNS_OF_MODELS, {"models": names}).all() if names else ():
        by_model.setdefault(row.model, []).append(row)
    return by_model


def run_of_id(connection: Connection, run: int) -> str:
    """The model that a run is of. Raises NotFound."""
    model = None
    if run <= MAX_INTEGER:
        model = connection.scalar(select(RUNS.c.model).where(RUNS.c.id == run, RUNS.c.ready))
    if model is None:
        raise NotFound(f"There is no run {run}: `neurarium runs` lists all runs.")
    return str(model)


def pick(model: str, rows: Sequence[Row[Any]], run: int | None) -> Row[Any]:
    """The run with the id `run` among a model's runs, given newest first. Raises NotFound.

    Without an id: the newest run at the model's default hook point, or else the newest run.
    """
    if not rows:
        raise NotFound(f"There is no model {model!r}.")
    if run is None:
        return next((row for row in rows if row.is_default_hook_point), rows[0])
    for row in rows:
        if row.id == run:
            return row
    ids = ", ".join(str(row.id) for row in rows)
    raise NotFound(f"{model} has no run {run}: its runs are {ids}.")


def at_hook_points(
    model: str, rows: Sequence[Row[Any]], run: int | None, hook_points: Iterable[str]
) -> Row[Any]:
    """The run that an address means which names hook points one after the other.

    It starts at `run`. Each hook point keeps the current run if that is at the hook point, and
    otherwise picks the newest run there. Raises NotFound.
    """
    current = pick(model, rows, run)
    for hook_point in hook_points:
        if current.hook_point != hook_point:
            matches = [row for row in rows if row.hook_point == hook_point]
            if not matches:
                known = ", ".join(sorted({row.hook_point for row in rows}))
                raise NotFound(f"{model} has no run at {hook_point}, only at {known}.")
            current = matches[0]
    return current


def has_layer(run: Row[Any], layer: int) -> bool:
    """Whether the run has this layer."""
    return layer < len(run.widths)


def has_neuron(run: Row[Any], layer: int, neuron: int) -> bool:
    """Whether the run has this neuron."""
    return has_layer(run, layer) and neuron < run.widths[layer]


def check_layer(run: Row[Any], layer: int) -> None:
    """Raises NotFound if the run does not have this layer."""
    if not has_layer(run, layer):
        raise NotFound(
            f"{run.model} has layers 0 to {len(run.widths) - 1}: there is no layer {layer}."
        )


def check_neuron(run: Row[Any], layer: int, neuron: int) -> None:
    """Raises NotFound if the run does not have this neuron."""
    check_layer(run, layer)
    if not has_neuron(run, layer, neuron):
        raise NotFound(
            f"Layer {layer} of {run.model} has neurons 0 to {run.widths[layer] - 1}: "
            f"there is no neuron {neuron}."
        )


def model_names(connection: Connection) -> list[str]:
    """The names of all models, sorted."""
    # Not in SQL: databases differ in how they order text.
    return sorted(connection.scalars(select(RUNS.c.model).where(RUNS.c.ready).distinct()))


def sample_of(run: Row[Any]) -> Sample:
    """The size of the run's sample."""
    return Sample(contexts=run.sample_contexts, positions=run.sample_positions)


def whole_run(row: Row[Any]) -> WholeRun:
    """A run with its size, for searches over all its neurons."""
    return WholeRun(
        model=row.model,
        run=run_ref(row),
        sample=sample_of(row),
        n_layers=len(row.widths),
        n_neurons=sum(row.widths),
        sources=row.sources,
    )
