"""The runs of a model: which run a page shows, and which layers and neurons it has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from app.errors import NotFound
from app.schemas import RunRef, Sample, WholeRun
from indexer.store import schema
from indexer.store.checksums import cover

RUNS = schema.runs
WHOLE = cover(RUNS)
MAX_INTEGER = 2**31 - 1
"""The largest integer that a column of type Integer can be compared with."""
# Built once: SQLAlchemy takes longer to put a statement together than SQLite to answer it.
_RUNS_OF_MODELS = (
    select(*WHOLE.selected, schema.vocabularies.c.identity)
    .join(schema.vocabularies)
    .where(RUNS.c.model.in_(bindparam("models", expanding=True)), schema.READY)
    .order_by(RUNS.c.id.desc())
)
_ALL_RUNS = select(*WHOLE.selected).where(schema.READY).order_by(RUNS.c.id.desc())


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
    """The runs of each of the models, newest first; models without a run are left out.

    Raises Damaged, also where a damaged name may be what hides a model.
    """
    # PostgreSQL rejects text with a NUL, and no name has one.
    names = sorted({model for model in models if "\0" not in model})
    by_model: dict[str, list[Row[Any]]] = {}
    found: Any = connection.execute(_RUNS_OF_MODELS, {"models": names}).all() if names else []
    for row in WHOLE.check(found):
        by_model.setdefault(row.model, []).append(row)
    if len(by_model) < len(names):
        all_runs(connection)
    return by_model


def all_runs(connection: Connection) -> Sequence[Row[Any]]:
    """The rows of all runs, newest first. Raises Damaged."""
    return WHOLE.check(connection.execute(_ALL_RUNS).all())


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
    return sorted({row.model for row in all_runs(connection)})


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
