"""The runs of a model: which run a page shows, and which layers and neurons it has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from app.errors import NotFound
from app.schemas import RunRef, Sample, UnitsRef, WholeRun
from app.sets import ModelSet
from indexer.store import schema
from indexer.store.checksums import cover
from indexer.store.units import HEADS, NEURONS, Units

RUNS = schema.runs
WHOLE = cover(RUNS)
MAX_INTEGER = 2**31 - 1
"""The largest integer that a column of type Integer can be compared with."""
# Built once: SQLAlchemy takes longer to put a statement together than SQLite to answer it.
_MARKS = (
    select(RUNS.c.id, RUNS.c.content_hash, RUNS.c.checksum)
    .where(RUNS.c.model == bindparam("model"), schema.READY)
    .order_by(RUNS.c.id.desc())
)
_ALL_RUNS = (
    select(*WHOLE.selected, schema.vocabularies.c.identity)
    .outerjoin(schema.vocabularies)  # without its vocabulary, a run's row is still checked
    .where(schema.READY)
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
        units=units_ref(row),
        corpus=row.corpus,
        dtype=row.dtype,
        contexts=row.contexts,
        tokens=row.tokens,
        ctx_len=row.ctx_len,
        created_at=row.created_at,
        content_hash=row.content_hash,
    )


def units_ref(row: Row[Any]) -> UnitsRef:
    """A run's set of units as JSON."""
    return UnitsRef(set=row.set_name, **Units.of(row.units).as_dict())


def runs_of(connection: Connection, models: Iterable[str]) -> dict[str, list[Row[Any]]]:
    """The runs of each of the models, newest first; models without a run are left out. Raises
    Damaged if a run of theirs is damaged. That includes a run whose stored model name is damaged:
    its row would be whole under one of these names."""
    wanted = set(models)
    by_model: dict[str, list[Row[Any]]] = {}
    rows: Any = connection.execute(_ALL_RUNS).all()
    for row in rows:
        if row.model in wanted:
            by_model.setdefault(row.model, []).append(row)
        elif not WHOLE.is_whole(row) and any(WHOLE.is_whole(_named(row, name)) for name in wanted):
            raise WHOLE.damaged(row)
    for of_model in by_model.values():
        WHOLE.check(of_model)
    return by_model


def _named(row: Row[Any], model: str) -> list[Any]:
    """A run's row with another model's name."""
    columns = zip(WHOLE.selected, row, strict=False)  # the vocabulary's identity comes after them
    return [model if column is RUNS.c.model else value for column, value in columns]


def marks_of(connection: Connection, model: str) -> list[Row[Any]]:
    """What tells whether the runs of a model are those that were read before: the id, content hash
    and checksum of each, newest first."""
    if "\0" in model:  # no name has a NUL, and PostgreSQL rejects it
        return []
    found: Any = connection.execute(_MARKS, {"model": model}).all()
    return list(found)


def run_of_id(connection: Connection, run: int) -> str:
    """The model that a run is of. Raises NotFound."""
    model = None
    if run <= MAX_INTEGER:
        model = connection.scalar(select(RUNS.c.model).where(RUNS.c.id == run, schema.READY))
    if model is None:
        raise NotFound(f"There is no run {run}: `neurarium runs` lists all runs.")
    return str(model)


def all_runs(connection: Connection) -> Sequence[Row[Any]]:
    """The rows of all runs, newest first. Raises Damaged."""
    rows: Any = connection.execute(_ALL_RUNS).all()
    checked: Sequence[Row[Any]] = WHOLE.check(rows)
    return checked


def default_set(rows: Sequence[Row[Any]]) -> str:
    """The set of units that a model's addresses mean where they name none: its neurons, or else
    the set that was indexed first. `rows`: the model's runs, newest first."""
    return NEURONS if any(row.set_name == NEURONS for row in rows) else str(rows[-1].set_name)


def runs_of_set(name: str | ModelSet, rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Those of a model's runs that are of one set of units; newest first, as `rows`.

    Raises NotFound if there is none.
    """
    model, wanted = (name.model, name.set) if isinstance(name, ModelSet) else (name, None)
    if not rows:
        raise NotFound(f"There is no model {model!r}.")
    of_set = wanted or default_set(rows)
    found = [row for row in rows if row.set_name == of_set]
    if not found:
        known = ", ".join(sorted({row.set_name for row in rows}))
        how = " Attention heads are indexed with `--heads`." if of_set == HEADS else ""
        raise NotFound(f"{model} has no set of units {of_set!r}: its sets are {known}.{how}")
    return found


def pick(name: str | ModelSet, rows: Sequence[Row[Any]], run: int | None) -> Row[Any]:
    """The run with the id `run` among a model's runs, given newest first. Raises NotFound.

    Without an id: the set's newest run at the model's default hook point, or else its newest run.
    A plain string means the default set, but a run of any set.
    """
    of_set = runs_of_set(name, rows)
    if run is None:
        return next((row for row in of_set if row.is_default_hook_point), of_set[0])
    for row in of_set if isinstance(name, ModelSet) else rows:
        if row.id == run:
            return row
    if other := next((row for row in rows if row.id == run), None):
        raise NotFound(
            f"Run {run} of {other.model} is of its set {other.set_name!r}, not of "
            f"{of_set[0].set_name!r}."
        )
    ids = ", ".join(str(row.id) for row in of_set)
    raise NotFound(f"{name} has no run {run}: its runs are {ids}.")


def default_runs(rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """The default run of each set of units of a model, given its runs newest first: the default
    set's first, the others by name."""
    first = default_set(rows)
    names = sorted({row.set_name for row in rows}, key=lambda name: (name != first, name))
    return [pick(ModelSet(rows[0].model, name), rows, None) for name in names]


def at_hook_points(
    name: str | ModelSet,
    rows: Sequence[Row[Any]],
    run: int | None,
    hook_points: Iterable[str],
) -> Row[Any]:
    """The run that an address means which names hook points one after the other.

    It starts at `run`. Each hook point keeps the current run if that is at the hook point, and
    otherwise picks the newest run there. Raises NotFound.
    """
    current = pick(name, rows, run)
    rows = [row for row in rows if row.set_name == current.set_name]
    for hook_point in hook_points:
        if current.hook_point != hook_point:
            matches = [row for row in rows if row.hook_point == hook_point]
            if not matches:
                known = ", ".join(sorted({row.hook_point for row in rows}))
                raise NotFound(f"{name} has no run at {hook_point}, only at {known}.")
            current = matches[0]
    return current


def has_layer(run: Row[Any], layer: int) -> bool:
    """Whether the run has this layer."""
    return 0 <= layer < len(run.widths)


def with_units(run: Row[Any]) -> list[int]:
    """The layers of a run that have units."""
    return [layer for layer, width in enumerate(run.widths) if width]


def has_neuron(run: Row[Any], layer: int, neuron: int) -> bool:
    """Whether the run has this neuron."""
    return has_layer(run, layer) and 0 <= neuron < run.widths[layer]


def check_layer(run: Row[Any], layer: int) -> None:
    """Raises NotFound if the run does not have this layer."""
    if not has_layer(run, layer):
        raise NotFound(
            f"{run.model} has layers 0 to {len(run.widths) - 1}: there is no layer {layer}."
        )
    if not run.widths[layer]:
        noun = Units.of(run.units).noun
        raise NotFound(f"Layer {layer} of {run.model} has no {noun}s in this set.")


def check_neuron(run: Row[Any], layer: int, neuron: int) -> None:
    """Raises NotFound if the run does not have this neuron."""
    check_layer(run, layer)
    if not has_neuron(run, layer, neuron):
        noun = Units.of(run.units).noun
        raise NotFound(
            f"Layer {layer} of {run.model} has {noun}s 0 to {run.widths[layer] - 1}: "
            f"there is no {noun} {neuron}."
        )


def model_names(connection: Connection) -> list[str]:
    """The names of all models, sorted. Raises Damaged."""
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
