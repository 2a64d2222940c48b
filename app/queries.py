"""Every SELECT of the server. Functions return schemas or raise `NotFound` or `Invalid`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select

from app.compare import queries as compare_query
from app.compare.queries import comparison
from app.compare.schemas import Comparison
from app.errors import NotFound
from app.examples.queries import read_kept
from app.lists import queries as list_query
from app.lists.entries import Entry
from app.lists.schemas import ListRow
from app.models import queries as layer_query
from app.models.queries import model_summary
from app.models.schemas import (
    LayerPage,
    LayerPicture,
    ModelList,
    ModelPage,
    Sort,
    Statistic,
)
from app.neurons.queries import beside, neuron_facts
from app.neurons.schemas import ContextPage, NeuronPage
from app.reading import cursors
from app.reading import runs as run_query
from app.reading.places import place
from app.reading.runs import MAX_INTEGER, RUNS, model_names, number_ground, run_ref, sample_of
from app.reading.store import Reading
from app.reading.versions import RunVersions
from app.reading.vocabulary import Vocabularies, text_of
from app.schemas import Health, NeuronRef, NumberGround, Order, Run
from app.search.numbers import queries as number_query
from app.search.numbers.grammar import Query
from app.search.numbers.schemas import NumberSearch
from app.web.address import NeuronPlace
from indexer.store import schema


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

    @contextmanager
    def reading(self, model: str, run: int | None) -> Iterator[Reading]:
        """A model's run, the store as it is now, and the run's tokens. Raises NotFound."""
        with self._engine.connect() as connection:
            shown, others = run_query.pick(connection, model, run)
            texts = self._vocabulary(connection, shown)
            index = partial(self._vocabularies.index, shown.identity, texts)
            yield Reading(connection, shown, others, texts, index)

    def versions(self, model: str | None = None) -> list[str]:
        """What identifies the contents of a model's runs, or of all runs: for ETags."""
        return self._versions.of(model)

    def health(self, version: str) -> Health:
        """Ask the database something."""
        with self._engine.connect() as connection:
            count = connection.scalar(select(func.count()).where(RUNS.c.ready))
        return Health(status="ok", version=version, runs=count or 0)

    def models(self, limit: int, cursor: str | None) -> ModelList:
        """Models by name."""
        after = "" if cursor is None else cursors.decode(cursor, str)[0]
        with self._engine.connect() as connection:
            found = [name for name in model_names(connection) if name > after]
            items = [model_summary(connection, name) for name in found[:limit]]
        more = cursors.encode(items[-1].model) if len(found) > limit else None
        return ModelList(items=items, next=more)

    def model(self, model: str, run: int | None) -> ModelPage:
        """A model with its layers."""
        with self._engine.connect() as connection:
            shown, others = run_query.pick(connection, model, run)
            layers = layer_query.summaries(connection, shown)
        return ModelPage(
            model=model,
            n_layers=len(shown.widths),
            n_neurons=sum(shown.widths),
            run=run_ref(shown),
            sample=sample_of(shown),
            layers=layers,
            other_runs=[run_ref(other) for other in others],
        )

    def is_default(self, model: str, run: int) -> bool:
        """Whether `run` is the one shown where none is named."""
        with self._engine.connect() as connection:
            return bool(run_query.pick(connection, model, None)[0].id == run)

    def run_seen(self, model: str, run: int | None, hook_points: list[str]) -> int:
        """The run that is meant by a hook point, seen from another run. Raises NotFound."""
        with self._engine.connect() as connection:
            rows = run_query.runs_of(connection, [model]).get(model, [])
        return int(run_query.seen(model, rows, run, hook_points).id)

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
            shown, others = run_query.pick(connection, model, run)
            run_query.check_layer(shown, layer)
            summary = layer_query.summary(connection, shown, layer)
            vocabulary = self._vocabulary(connection, shown)
            neurons = layer_query.neurons(
                connection, shown, layer, vocabulary, sort, order, limit, cursor
            )
        return LayerPage(
            model=model,
            hook_point=shown.hook_point,
            run=run_ref(shown),
            sample=sample_of(shown),
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
            shown, _ = run_query.pick(connection, model, run)
            run_query.check_layer(shown, layer)
            vocabulary = self._vocabulary(connection, shown)
            facts = layer_query.picture_facts(connection, shown, layer, vocabulary, stat, first)
        return LayerPicture(
            model=model,
            layer=layer,
            hook_point=shown.hook_point,
            run=run_ref(shown),
            sample=sample_of(shown),
            stat=stat,
            **vars(facts),
        )

    def number_ground(self, model: str, run: int | None) -> NumberGround:
        """What a search by number goes over."""
        with self._engine.connect() as connection:
            return number_ground(run_query.pick(connection, model, run)[0])

    def numbers(
        self, model: str, run: int | None, query: Query, limit: int, cursor: str | None
    ) -> NumberSearch:
        """One page of the neurons a query asks for. Raises GrammarError too."""
        with self._engine.connect() as connection:
            shown, _ = run_query.pick(connection, model, run)
            vocabulary = self._vocabulary(connection, shown)
            facts = number_query.search(connection, shown, vocabulary, query, limit, cursor)
        return NumberSearch(**vars(number_ground(shown)), **vars(facts))

    def neuron(
        self, model: str, layer: int, neuron: int, run: int | None, reach: int | None = None
    ) -> NeuronPage:
        """A neuron's page; `reach` cuts examples to so many positions round their centre."""
        with self._engine.connect() as connection:
            return self._neuron(connection, NeuronPlace(model, layer, neuron, run), reach)[0]

    def compare(self, a: NeuronPlace, b: NeuronPlace, reach: int | None = None) -> Comparison:
        """Two neurons' pages, `reach` as of one, and what they have in common."""
        with self._engine.connect() as connection:
            (first, run_a), (second, run_b) = (
                self._neuron(connection, place, reach) for place in (a, b)
            )
            both = (run_a, first), (run_b, second)
            shared = compare_query.shared(connection, *both)
            correlated = compare_query.correlation(connection, *both)
        return comparison(first, second, shared, correlated)

    def rows(self, entries: list[Entry], reach: int | None = None) -> list[ListRow]:
        """A list's neurons in few SELECTs, however many; those met before are left out."""
        with self._engine.connect() as connection:
            return list_query.rows(connection, self._vocabularies, entries, reach)

    def check(self, place: NeuronPlace) -> None:
        """Raises NotFound where there is no such neuron."""
        with self._engine.connect() as connection:
            shown, _ = run_query.pick(connection, place.model, place.run)
        run_query.flat(shown, place.layer, place.neuron)

    def check_any(self, model: str, layer: int, neuron: int) -> None:
        """Raises NotFound where no run of a model has such a neuron."""
        with self._engine.connect() as connection:
            shown, others = run_query.pick(connection, model, None)
        if not any(layer < len(run.widths) and neuron < run.widths[layer] for run in others):
            run_query.flat(shown, layer, neuron)

    def _neuron(
        self, connection: Connection, at: NeuronPlace, reach: int | None
    ) -> tuple[NeuronPage, Row[Any]]:
        """A neuron's page and the run it is of."""
        model, layer, neuron = at.model, at.layer, at.neuron
        shown, others = run_query.pick(connection, model, at.run)
        flat = run_query.flat(shown, layer, neuron)
        vocabulary = self._vocabulary(connection, shown)
        facts = neuron_facts(connection, vocabulary, shown, flat, reach)
        page = NeuronPage(
            model=model,
            layer=layer,
            neuron=neuron,
            hook_point=f"blocks.{layer}.{shown.hook_point}",
            n_layers=len(shown.widths),
            run=run_ref(shown),
            sample=sample_of(shown),
            **vars(facts),
            previous=place(shown.widths, flat - 1),
            next=place(shown.widths, flat + 1),
            layer_before=beside(shown.widths, layer - 1, neuron),
            layer_after=beside(shown.widths, layer + 1, neuron),
            other_runs=[
                run_ref(other)
                for other in others
                if layer < len(other.widths) and neuron < other.widths[layer]
            ],
        )
        return page, shown

    def context(
        self, model: str, layer: int, neuron: int, context_id: int, run: int | None
    ) -> ContextPage:
        """A whole context that is an example of a neuron."""
        neurons = schema.neurons
        with self._engine.connect() as connection:
            shown, _ = run_query.pick(connection, model, run)
            flat = run_query.flat(shown, layer, neuron)
            key = schema.neuron_key(shown.id, flat)
            range_of = select(neurons.c.max, neurons.c.min).where(neurons.c.id == key)
            row = connection.execute(range_of).one()
            vocabulary = self._vocabulary(connection, shown)
            kept = read_kept(connection, shown, key, vocabulary)
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
        if run_id <= MAX_INTEGER:
            with self._engine.connect() as connection:
                wanted = select(RUNS).where(RUNS.c.id == run_id, RUNS.c.ready)
                row = connection.execute(wanted).one_or_none()
        if row is None:
            raise NotFound(f"There is no run {run_id}.")
        return Run(
            **run_ref(row).model_dump(),
            n_layers=len(row.widths),
            n_neurons=sum(row.widths),
            sample=sample_of(row),
            provenance=row.provenance,
        )

    def random(
        self, model: str | None, layer: int | None, run: int | None
    ) -> tuple[str, NeuronRef]:
        """A neuron drawn uniformly: of all models, of one, of one layer."""
        with self._engine.connect() as connection:
            if model is None:
                models = model_names(connection)
                if not models:
                    raise NotFound("There is no neuron yet: index a model first.")
                picked = [run_query.pick(connection, name, None)[0] for name in models]
                sizes = [sum(row.widths) for row in picked]
                shown = random.choices(picked, weights=sizes)[0]
            else:
                shown, _ = run_query.pick(connection, model, run)
        if layer is None:
            drawn = place(shown.widths, random.randrange(sum(shown.widths)))
        else:
            run_query.check_layer(shown, layer)
            drawn = NeuronRef(layer=layer, neuron=random.randrange(shown.widths[layer]))
        assert drawn is not None  # the index was drawn from the neurons there are
        return shown.model, drawn
