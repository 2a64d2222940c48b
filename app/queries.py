"""Every SELECT of the server. Functions return schemas or raise `NotFound` or `Invalid`."""

from __future__ import annotations

import random
from typing import Any

from sqlalchemy import Connection, Engine, Row, bindparam, func, select

from app import cursors, layer_query
from app.errors import NotFound
from app.example_query import Kept
from app.neuron_query import neuron_facts, place
from app.run_versions import RunVersions
from app.schemas import (
    ContextPage,
    Health,
    LayerPage,
    LayerPicture,
    ModelList,
    ModelPage,
    ModelSummary,
    NeuronPage,
    NeuronRef,
    Order,
    Run,
    RunRef,
    Sample,
    Sort,
    Statistic,
)
from app.vocabulary import Vocabularies, text_of
from indexer.store import schema

_runs = schema.runs
_RUN_COLUMNS = [
    *(column for column in _runs.c if column.name != "provenance"),
    schema.vocabularies.c.identity,
]
# Built once: SQLAlchemy takes longer to put a statement together than SQLite to answer it.
_RUNS_OF_MODEL = (
    select(*_RUN_COLUMNS)
    .join(schema.vocabularies)
    .where(_runs.c.model == bindparam("model"), _runs.c.ready)
    .order_by(_runs.c.id.desc())
)


class Queries:
    """Reads one store. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        # A page is several SELECTs: they see one state of the store, whatever is deleted meanwhile.
        self._engine = engine
        if engine.dialect.name == "postgresql":
            self._engine = engine.execution_options(isolation_level="REPEATABLE READ")
        self._vocabularies = Vocabularies()
        self._versions = RunVersions(engine)

    def close(self) -> None:
        """Give the connections back."""
        self._versions.close()
        self._engine.dispose()

    def versions(self, model: str | None = None) -> list[str]:
        """What identifies the contents of a model's runs, or of all runs: for ETags."""
        return self._versions.of(model)

    def health(self, version: str) -> Health:
        """Ask the database something."""
        with self._engine.connect() as connection:
            count = connection.scalar(select(func.count()).where(_runs.c.ready))
        return Health(status="ok", version=version, runs=count or 0)

    def models(self, limit: int, cursor: str | None) -> ModelList:
        """Models by name."""
        after = "" if cursor is None else cursors.decode(cursor, str)[0]
        with self._engine.connect() as connection:
            found = [name for name in _model_names(connection) if name > after]
            items = [_model_summary(connection, name) for name in found[:limit]]
        more = cursors.encode(items[-1].model) if len(found) > limit else None
        return ModelList(items=items, next=more)

    def model(self, model: str, run: int | None) -> ModelPage:
        """A model with its layers."""
        with self._engine.connect() as connection:
            shown, others = _pick_run(connection, model, run)
            layers = layer_query.summaries(connection, shown)
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
            summary = layer_query.summary(connection, shown, layer)
            vocabulary = self._vocabulary(connection, shown)
            neurons = layer_query.neurons(
                connection, shown, layer, vocabulary, sort, order, limit, cursor
            )
        return LayerPage(
            model=model,
            hook_point=shown.hook_point,
            run=run_ref(shown),
            sample=_sample(shown),
            summary=summary,
            n_layers=len(shown.widths),
            sort=sort,
            order=order,
            neurons=neurons,
            other_runs=[run_ref(other) for other in others if layer < len(other.widths)],
        )

    def picture(
        self, model: str, layer: int, run: int | None, stat: Statistic, first: int
    ) -> LayerPicture:
        """One statistic of a layer's neurons from `first` on, in their order."""
        with self._engine.connect() as connection:
            shown, _ = _pick_run(connection, model, run)
            _check_layer(shown, layer)
            vocabulary = self._vocabulary(connection, shown)
            facts = layer_query.picture_facts(connection, shown, layer, vocabulary, stat, first)
        return LayerPicture(
            model=model,
            layer=layer,
            hook_point=shown.hook_point,
            run=run_ref(shown),
            sample=_sample(shown),
            stat=stat,
            **vars(facts),
        )

    def neuron(
        self, model: str, layer: int, neuron: int, run: int | None, reach: int | None = None
    ) -> NeuronPage:
        """A neuron's page; `reach` cuts examples to so many positions round their centre."""
        with self._engine.connect() as connection:
            shown, others = _pick_run(connection, model, run)
            flat = _flat(shown, layer, neuron)
            vocabulary = self._vocabulary(connection, shown)
            facts = neuron_facts(connection, vocabulary, shown, flat, reach)
        return NeuronPage(
            model=model,
            layer=layer,
            neuron=neuron,
            hook_point=f"blocks.{layer}.{shown.hook_point}",
            n_layers=len(shown.widths),
            run=run_ref(shown),
            sample=_sample(shown),
            **vars(facts),
            previous=place(shown.widths, flat - 1),
            next=place(shown.widths, flat + 1),
            layer_before=_beside(shown.widths, layer - 1, neuron),
            layer_after=_beside(shown.widths, layer + 1, neuron),
            other_runs=[
                run_ref(other)
                for other in others
                if layer < len(other.widths) and neuron < other.widths[layer]
            ],
        )

    def context(
        self, model: str, layer: int, neuron: int, context_id: int, run: int | None
    ) -> ContextPage:
        """A whole context that is an example of a neuron."""
        neurons = schema.neurons
        with self._engine.connect() as connection:
            shown, _ = _pick_run(connection, model, run)
            flat = _flat(shown, layer, neuron)
            key = schema.neuron_key(shown.id, flat)
            range_of = select(neurons.c.max, neurons.c.min).where(neurons.c.id == key)
            row = connection.execute(range_of).one()
            vocabulary = self._vocabulary(connection, shown)
            kept = Kept(connection, shown, key, vocabulary)
            found = kept.whole(context_id)
            included = [] if found is None else kept.contexts[context_id].included_ids
            text = text_of(connection, shown.vocabulary_id, included)
        if found is None:
            raise NotFound(
                f"Context {context_id} is no example of neuron {neuron} in layer {layer} of "
                f"{model}: its page lists those that are."
            )
        kinds, example, stored = found
        return ContextPage(
            model=model,
            layer=layer,
            neuron=neuron,
            hook_point=f"blocks.{layer}.{shown.hook_point}",
            run=run_ref(shown),
            scale=max(abs(row.max), abs(row.min)),
            max=row.max,
            min=row.min,
            kinds=kinds,
            text=text,
            length=len(example.tokens),
            stored_from=stored.start,
            stored_to=stored.stop,
            example=example,
        )

    def _vocabulary(self, connection: Connection, run: Row[Any]) -> list[str]:
        return self._vocabularies.get(connection, run.vocabulary_id, run.identity)

    def run(self, run_id: int) -> Run:
        """A run with its provenance."""
        row = None
        if run_id <= layer_query.MAX_INTEGER:
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
            drawn = place(shown.widths, random.randrange(sum(shown.widths)))
        else:
            _check_layer(shown, layer)
            drawn = NeuronRef(layer=layer, neuron=random.randrange(shown.widths[layer]))
        assert drawn is not None  # the index was drawn from the neurons there are
        return shown.model, drawn


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


def _model_names(connection: Connection) -> list[str]:
    """All models' names. Sorted here: databases differ in how they order text."""
    return sorted(connection.scalars(select(_runs.c.model).where(_runs.c.ready).distinct()))


def _pick_run(
    connection: Connection, model: str, run: int | None
) -> tuple[Row[Any], list[Row[Any]]]:
    """The run to show and the model's others, newest first.

    Without `run`: the latest at the default hook point; the latest of all, if there is none.
    """
    # PostgreSQL takes no NUL in a text, so no name has one.
    known = "\0" not in model
    rows = list(connection.execute(_RUNS_OF_MODEL, {"model": model}).all()) if known else []
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


def _flat(run: Row[Any], layer: int, neuron: int) -> int:
    """A neuron's index counted over all layers. Raises NotFound."""
    _check_layer(run, layer)
    if neuron >= run.widths[layer]:
        raise NotFound(
            f"Layer {layer} of {run.model} has neurons 0 to {run.widths[layer] - 1}: "
            f"there is no neuron {neuron}."
        )
    return int(sum(run.widths[:layer]) + neuron)


def _beside(widths: list[int], layer: int, neuron: int) -> NeuronRef | None:
    """The neuron of the same number in another layer, or its last one."""
    if not 0 <= layer < len(widths):
        return None
    return NeuronRef(layer=layer, neuron=min(neuron, widths[layer] - 1))


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
