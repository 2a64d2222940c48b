"""Every SELECT of the server. Functions return schemas or raise `NotFound` or `Invalid`."""

from __future__ import annotations

import base64
import binascii
import json
import random
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, false, func, select, tuple_

from app.errors import Invalid, NotFound
from app.neuron_query import Vocabularies, finite, neuron_facts
from app.schemas import (
    Health,
    LayerPage,
    LayerSummary,
    ModelList,
    ModelPage,
    ModelSummary,
    NeuronList,
    NeuronPage,
    NeuronRef,
    NeuronRow,
    Order,
    Run,
    RunRef,
    Sample,
    Sort,
)
from indexer.store import schema

MAX_INTEGER = 2**31 - 1
_runs = schema.runs
_RUN_COLUMNS = [column for column in _runs.c if column.name != "provenance"]


class Queries:
    """Reads one store. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        # A page is several SELECTs: they see one state of the store, whatever is deleted meanwhile.
        self._engine = engine
        if engine.dialect.name == "postgresql":
            self._engine = engine.execution_options(isolation_level="REPEATABLE READ")
        self._vocabularies = Vocabularies()

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def versions(self, model: str | None = None) -> list[str]:
        """What identifies the contents of a model's runs, or of all runs: for ETags."""
        wanted = select(_runs.c.id, _runs.c.content_hash).where(_runs.c.ready).order_by(_runs.c.id)
        if model is not None:
            wanted = wanted.where(_is_model(model))
        with self._engine.connect() as connection:
            return [f"{row.id}:{row.content_hash}" for row in connection.execute(wanted)]

    def health(self, version: str) -> Health:
        """Ask the database something."""
        with self._engine.connect() as connection:
            count = connection.scalar(select(func.count()).where(_runs.c.ready))
        return Health(status="ok", version=version, runs=count or 0)

    def models(self, limit: int, cursor: str | None) -> ModelList:
        """Models by name."""
        after = "" if cursor is None else _decode_cursor(cursor, str)[0]
        with self._engine.connect() as connection:
            found = [name for name in _model_names(connection) if name > after]
            items = [_model_summary(connection, name) for name in found[:limit]]
        more = _encode_cursor(items[-1].model) if len(found) > limit else None
        return ModelList(items=items, next=more)

    def model(self, model: str, run: int | None) -> ModelPage:
        """A model with its layers."""
        with self._engine.connect() as connection:
            shown, others = _pick_run(connection, model, run)
            wanted = select(schema.layers).where(schema.layers.c.run_id == shown.id)
            rows = connection.execute(wanted.order_by(schema.layers.c.layer))
            layers = [_layer_summary(row) for row in rows]
        return ModelPage(
            model=model,
            n_layers=len(shown.widths),
            n_neurons=sum(shown.widths),
            run=run_ref(shown),
            sample=_sample(shown),
            layers=layers,
            other_runs=[run_ref(other) for other in others],
        )

    def is_default(self, model: str, run: int) -> bool:
        """Whether `run` is the one shown where none is named."""
        with self._engine.connect() as connection:
            return bool(_pick_run(connection, model, None)[0].id == run)

    def layer(
        self,
        model: str,
        layer: int,
        run: int | None,
        sort: Sort,
        order: Order,
        limit: int,
        cursor: str | None,
    ) -> LayerPage:
        """A layer with one page of its neurons."""
        with self._engine.connect() as connection:
            shown, others = _pick_run(connection, model, run)
            _check_layer(shown, layer)
            summary = connection.execute(
                select(schema.layers).where(
                    schema.layers.c.run_id == shown.id, schema.layers.c.layer == layer
                )
            ).one()
            found = connection.execute(_neurons_of(shown.id, layer, sort, order, limit, cursor))
            rows = found.all()
            vocabulary = self._vocabularies.get(connection, shown.vocabulary_id)
        items = [_neuron_row(row, vocabulary) for row in rows[:limit]]
        more = None
        if len(rows) > limit:
            last = rows[limit - 1]
            key = [last.neuron] if sort == "neuron" else [getattr(last, sort), last.neuron]
            more = _encode_cursor(sort, order, *key)
        return LayerPage(
            model=model,
            hook_point=shown.hook_point,
            run=run_ref(shown),
            sample=_sample(shown),
            summary=_layer_summary(summary),
            n_layers=len(shown.widths),
            sort=sort,
            order=order,
            neurons=NeuronList(items=items, next=more),
            other_runs=[run_ref(other) for other in others if layer < len(other.widths)],
        )

    def neuron(self, model: str, layer: int, neuron: int, run: int | None) -> NeuronPage:
        """A neuron's page."""
        with self._engine.connect() as connection:
            shown, others = _pick_run(connection, model, run)
            _check_layer(shown, layer)
            if neuron >= shown.widths[layer]:
                raise NotFound(
                    f"Layer {layer} of {model} has neurons 0 to {shown.widths[layer] - 1}: "
                    f"there is no neuron {neuron}."
                )
            flat = sum(shown.widths[:layer]) + neuron
            facts = neuron_facts(connection, self._vocabularies, shown, flat)
        return NeuronPage(
            model=model,
            layer=layer,
            neuron=neuron,
            hook_point=f"blocks.{layer}.{shown.hook_point}",
            run=run_ref(shown),
            sample=_sample(shown),
            stats=facts.stats,
            histogram=facts.histogram,
            examples=facts.examples,
            logit_effects=facts.logit_effects,
            previous=_place(shown.widths, flat - 1),
            next=_place(shown.widths, flat + 1),
            other_runs=[
                run_ref(other)
                for other in others
                if layer < len(other.widths) and neuron < other.widths[layer]
            ],
        )

    def run(self, run_id: int) -> Run:
        """A run with its provenance."""
        row = None
        if run_id <= MAX_INTEGER:
            with self._engine.connect() as connection:
                wanted = select(_runs).where(_runs.c.id == run_id, _runs.c.ready)
                row = connection.execute(wanted).one_or_none()
        if row is None:
            raise NotFound(f"There is no run {run_id}.")
        return Run(
            **run_ref(row).model_dump(),
            n_layers=len(row.widths),
            n_neurons=sum(row.widths),
            sample=_sample(row),
            provenance=row.provenance,
        )

    def random(
        self, model: str | None, layer: int | None, run: int | None
    ) -> tuple[str, NeuronRef]:
        """A neuron drawn uniformly: of all models, of one, of one layer."""
        with self._engine.connect() as connection:
            if model is None:
                models = _model_names(connection)
                if not models:
                    raise NotFound("There is no neuron yet: index a model first.")
                picked = [_pick_run(connection, name, None)[0] for name in models]
                sizes = [sum(row.widths) for row in picked]
                shown = random.choices(picked, weights=sizes)[0]
            else:
                shown, _ = _pick_run(connection, model, run)
        if layer is None:
            place = _place(shown.widths, random.randrange(sum(shown.widths)))
        else:
            _check_layer(shown, layer)
            place = NeuronRef(layer=layer, neuron=random.randrange(shown.widths[layer]))
        assert place is not None  # the index was drawn from the neurons there are
        return shown.model, place


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


def _is_model(model: str) -> ColumnElement[bool]:
    """Whether a run is of this model. PostgreSQL takes no NUL in a text, so no name has one."""
    return false() if "\0" in model else _runs.c.model == model


def _model_names(connection: Connection) -> list[str]:
    """All models' names. Sorted here: databases differ in how they order text."""
    return sorted(connection.scalars(select(_runs.c.model).where(_runs.c.ready).distinct()))


def _pick_run(
    connection: Connection, model: str, run: int | None
) -> tuple[Row[Any], list[Row[Any]]]:
    """The run to show and the model's others, newest first.

    Without `run`: the latest at the default hook point; the latest of all, if there is none.
    """
    wanted = select(*_RUN_COLUMNS).where(_is_model(model), _runs.c.ready)
    rows = list(connection.execute(wanted.order_by(_runs.c.id.desc())).all())
    if not rows:
        raise NotFound(f"There is no model {model!r} here.")
    if run is None:
        shown = next((row for row in rows if row.is_default_hook_point), rows[0])
    else:
        named = [row for row in rows if row.id == run]
        if not named:
            there = ", ".join(str(row.id) for row in rows)
            raise NotFound(f"{model} has no run {run}: its runs are {there}.")
        shown = named[0]
    return shown, [row for row in rows if row.id != shown.id]


def _check_layer(run: Row[Any], layer: int) -> None:
    if layer >= len(run.widths):
        raise NotFound(
            f"{run.model} has layers 0 to {len(run.widths) - 1}: there is no layer {layer}."
        )


def _place(widths: list[int], flat: int) -> NeuronRef | None:
    """The address of a flat index; None before the first and after the last neuron."""
    if flat < 0:
        return None
    for layer, width in enumerate(widths):
        if flat < width:
            return NeuronRef(layer=layer, neuron=flat)
        flat -= width
    return None


def _sample(run: Row[Any]) -> Sample:
    return Sample(contexts=run.sample_contexts, positions=run.sample_positions)


def _model_summary(connection: Connection, name: str) -> ModelSummary:
    shown, others = _pick_run(connection, name, None)
    return ModelSummary(
        model=name,
        n_layers=len(shown.widths),
        n_neurons=sum(shown.widths),
        runs=1 + len(others),
        run=run_ref(shown),
    )


def _layer_summary(row: Row[Any]) -> LayerSummary:
    return LayerSummary(
        layer=row.layer,
        neurons=row.neurons,
        dead=row.dead,
        max=row.max,
        mean_max=row.mean_max,
        mean_density=row.mean_density,
    )


def _neurons_of(
    run_id: int, layer: int, sort: Sort, order: Order, limit: int, cursor: str | None
) -> Select[Any]:
    """One page of a layer's neurons, sought by key: never OFFSET. One row more than `limit`."""
    table = schema.neurons
    wanted = select(
        table.c.layer,
        table.c.neuron,
        table.c.max,
        table.c.min,
        table.c.mean,
        table.c.std,
        table.c.skewness,
        table.c.kurtosis,
        table.c.density,
        table.c.dead,
        table.c.peak_token_id,
        table.c.promoted_token_id,
    ).where(table.c.run_id == run_id, table.c.layer == layer)
    keys = [table.c.neuron] if sort == "neuron" else [table.c[sort], table.c.neuron]
    if cursor is not None:
        kinds = [int] if sort == "neuron" else [float, int]
        told_sort, told_order, *after = _decode_cursor(cursor, str, str, *kinds)
        if (told_sort, told_order) != (sort, order) or not 0 <= after[-1] <= MAX_INTEGER:
            raise Invalid("The cursor belongs to another order: start again without it.")
        mine = tuple_(*keys)
        wanted = wanted.where(mine < tuple_(*after) if order == "desc" else mine > tuple_(*after))
    ordered = [key.desc() if order == "desc" else key.asc() for key in keys]
    return wanted.order_by(*ordered).limit(limit + 1)


def _neuron_row(row: Row[Any], vocabulary: list[str]) -> NeuronRow:
    return NeuronRow(
        layer=row.layer,
        neuron=row.neuron,
        max=row.max,
        min=row.min,
        mean=row.mean,
        std=row.std,
        skewness=row.skewness,
        kurtosis=finite(row.kurtosis),
        density=row.density,
        dead=row.dead,
        peak_token=vocabulary[row.peak_token_id],
        promoted_token=vocabulary[row.promoted_token_id],
    )


def _encode_cursor(*parts: str | float) -> str:
    # −inf is not JSON, but Python's own reading of it is all that is needed here.
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def _decode_cursor(cursor: str, *kinds: type) -> list[Any]:
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        parts = None
    fits = isinstance(parts, list) and len(parts) == len(kinds)
    if not fits or not all(
        isinstance(part, kind) and not isinstance(part, bool)
        for part, kind in zip(parts, kinds, strict=True)
    ):
        raise Invalid("The cursor is not one this server gave: start again without it.")
    return list(parts)
