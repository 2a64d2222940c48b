"""Stores, models, layers, neurons and examples as objects, whatever they are read from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from html import escape
from typing import Any, SupportsIndex, get_args

import numpy as np

from app.compare.schemas import Comparison
from app.differences.schemas import DifferenceSort
from app.models.schemas import ModelPage
from app.neurons.schemas import NeuronPage, Stats, Weights
from app.schemas import Run, RunRef, Schema
from app.search.schemas import Role
from app.sets import ModelSet
from app.web.address import NeuronPlace
from app.web.paths import DifferencesQuery, TokenQuery
from indexer.errors import NeurariumError
from indexer.store.units import HEADS
from neurarium.given import LARGEST_TOKEN, number, optional_number, words
from neurarium.heads import Head, Heads
from neurarium.reader import Reader
from neurarium.tables import Table
from neurarium.texts import Example, LiveText

Array = np.ndarray[Any, Any]


class Store:
    """The runs of one database or server. Close it, or use it in a `with` statement."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    @property
    def place(self) -> str:
        """The database's or server's address."""
        return self.reader.place

    @property
    def models(self) -> list[str]:
        """The names of all models."""
        return self.reader.models()

    @property
    def runs(self) -> list[RunRef]:
        """All runs of all models and sets of units, newest first."""
        found: list[RunRef] = []
        for name in self.models:
            for one in self.model(name).sets:
                found += [one.page.run, *one.page.other_runs]
        return sorted(found, key=lambda run: -run.id)

    def model(
        self, name: str, run: SupportsIndex | None = None, *, units: str | None = None
    ) -> Model:
        """A model, in its default run or in the run with this number; `units` names another set of
        units than its default. Raises NeurariumError."""
        named = str(ModelSet(words("name", name), units))
        number_of_run = optional_number("run", run, 1)
        return Model(self.reader, self.reader.model(named, number_of_run), named, number_of_run)

    def close(self) -> None:
        """Close all connections."""
        self.reader.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Neurarium store {self.place}>"

    def _repr_html_(self) -> str:
        """The models, for notebooks."""
        names = "".join(f"<li>{escape(name)}</li>" for name in self.models)
        return f"<p>Neurarium store {escape(self.place)}</p><ul>{names}</ul>"


class Model:
    """A model in one run."""

    def __init__(self, reader: Reader, page: ModelPage, name: str, asked: int | None) -> None:
        self._reader = reader
        self._asked = asked
        self.name = name
        """Its name in addresses, with its set of units unless that is the default."""
        self.page = page
        """The API's JSON of the model."""

    @cached_property
    def run(self) -> Run:
        """The run, with its provenance and content hash."""
        return self._reader.run(self.page.run.id)

    @property
    def sets(self) -> list[Model]:
        """The model in each of its sets of units, in their default runs; the default set first."""
        names = [str(one.run.name) for one in self.page.sets]
        return [Model(self._reader, self._reader.model(name, None), name, None) for name in names]

    @property
    def layers(self) -> list[Layer]:
        """All layers, in order."""
        return [self.layer(layer.layer) for layer in self.page.layers]

    def layer(self, layer: SupportsIndex) -> Layer:
        """A layer: its neurons as rows. Raises NeurariumError for what is no layer's number."""
        return Layer(self._reader, self.name, self._asked, number("layer", layer))

    def neuron(self, layer: SupportsIndex, neuron: SupportsIndex) -> Neuron:
        """A neuron. Raises NeurariumError if there is none."""
        page = self._reader.neuron(
            self.name, self._asked, number("layer", layer), number("neuron", neuron)
        )
        return Neuron(self._reader, page, self.name)

    @property
    def heads(self) -> Heads:
        """The model's attention heads with their scores. Raises NeurariumError if they are not
        indexed."""
        return Heads(self._reader, self.page.model, self._run_of_heads)

    def head(self, layer: SupportsIndex, head: SupportsIndex) -> Head:
        """An attention head. Raises NeurariumError if there is none."""
        page = self._reader.head(
            self.page.model, self._run_of_heads, number("layer", layer), number("head", head)
        )
        return Head(self._reader, page)

    @property
    def _run_of_heads(self) -> int | None:
        """The run that was asked for if it is of heads; else their default run."""
        return self._asked if self.page.run.units.set == HEADS else None

    def search(
        self,
        token: str | None = None,
        *,
        token_id: SupportsIndex | None = None,
        role: str | None = None,
    ) -> Table:
        """The neurons of a token: those that peak on it, or promote it (`role="promoted"`),
        `suppressed`, or are activated by its embedding (`in`, `gate`); attention heads that attend
        from it or to it (`query`, `key`). Raises NeurariumError for another role."""
        token = None if token is None else words("token", token)
        number_of_token = optional_number("token_id", token_id, last=LARGEST_TOKEN)
        if role is not None and role not in get_args(Role):
            raise NeurariumError(f"There is no role {role!r}: use {', '.join(get_args(Role))}.")

        def page(cursor: str | None) -> Any:
            asked: TokenQuery
            asked = {"token": token, "token_id": number_of_token, "role": role, "cursor": cursor}
            return self._reader.search(self.name, self._asked, asked)

        return Table(
            f"{self.name}: neurons of {token if token is not None else token_id!r}", _all(page)
        )

    def search_text(self, text: str) -> Table:
        """The contexts with words, "a phrase" or the beginning of a word*, each with the neurons
        that have it as an example."""
        text = words("text", text)

        def page(cursor: str | None) -> Any:
            return self._reader.search_text(self.name, self._asked, text, cursor)

        return Table(f"{self.name}: contexts with {text!r}", _all(page))

    def differences(
        self,
        a: SupportsIndex | None = None,
        b: SupportsIndex | None = None,
        *,
        layer: SupportsIndex | None = None,
        sort: str | None = None,
    ) -> Table:
        """What changed of each neuron between two runs of the model; those that changed most come
        first. Runs and `sort` are by default those of the API. Raises NeurariumError."""
        runs = optional_number("a", a, 1), optional_number("b", b, 1)
        of_layer = optional_number("layer", layer)
        if sort is not None and sort not in get_args(DifferenceSort):
            known = ", ".join(get_args(DifferenceSort))
            raise NeurariumError(f"Differences are not sorted by {sort!r}: use {known}.")

        def page(cursor: str | None) -> Any:
            asked: DifferencesQuery = {"layer": of_layer, "sort": sort, "cursor": cursor}
            return self._reader.differences(self.name, *runs, asked)

        return Table(f"{self.name}: differences", _all(page))

    def find(self, query: str = "") -> Table:
        """The neurons whose statistics match a query, such as `max>3 density<20%`."""
        query = words("query", query)

        def page(cursor: str | None) -> Any:
            return self._reader.find(self.name, self._asked, query, cursor)

        return Table(f"{self.name}: {query}", _all(page))

    def __repr__(self) -> str:
        run = self.page.run
        return f"<{self.name}, run {run.id}: {self.page.n_neurons:,} {run.units.noun}s>"

    def _repr_html_(self) -> str:
        """The model in one line, for notebooks."""
        run = self.page.run
        return (
            f"<p><b>{escape(self.name)}</b>: {self.page.n_layers} layers, "
            f"{self.page.n_neurons:,} {run.units.noun}s at {escape(run.hook_point)}, over "
            f"{escape(run.corpus)} ({run.tokens:,} tokens), run {run.id}</p>"
        )


class Layer(Table):
    """A layer's neurons as rows, in order."""

    def __init__(self, reader: Reader, model: str, run: int | None, layer: int) -> None:
        def page(cursor: str | None) -> Any:
            return reader.neurons(model, run, layer, cursor)

        super().__init__(f"{model}, layer {layer}", _all(page))
        self._reader, self._model, self._run = reader, model, run
        self.layer = layer

    def neuron(self, neuron: SupportsIndex) -> Neuron:
        """A neuron of the layer. Raises NeurariumError if there is none."""
        page = self._reader.neuron(self._model, self._run, self.layer, number("neuron", neuron))
        return Neuron(self._reader, page, self._model)


class Neuron:
    """A neuron: its page's contents, arrays as numpy."""

    def __init__(self, reader: Reader, page: NeuronPage, model: str) -> None:
        self._reader = reader
        self._model = model
        self.page = page
        """The API's JSON of the neuron."""

    @property
    def name(self) -> str | None:
        """Its name in its dictionary's file; None if it has none."""
        return self.page.name

    @property
    def stats(self) -> Stats:
        """Its statistics."""
        return self.page.stats

    @property
    def weights(self) -> Weights:
        """What its weights say: logit effects, similar neurons, …"""
        return self.page.weights

    @property
    def top(self) -> list[Example]:
        """Its highest-activating contexts, highest first."""
        return list(map(Example, self.page.examples.top))

    @property
    def bottom(self) -> list[Example]:
        """Its lowest-activating contexts, lowest first."""
        return list(map(Example, self.page.examples.bottom))

    @property
    def random(self) -> list[Example]:
        """Random contexts, the same for all neurons."""
        return list(map(Example, self.page.examples.random))

    @property
    def histogram(self) -> tuple[Array, Array]:
        """Counts [bins] and edges [bins + 1] of its activations over the sample, as
        `numpy.histogram` gives them."""
        return np.array(self.page.histogram.counts), np.array(self.page.histogram.edges)

    def activations(self, text: str) -> LiveText:
        """The neuron on a text, by the run's model. Raises NeurariumError if the model cannot be
        loaded here, or the server runs none."""
        page = self.page
        text = words("text", text)
        return LiveText(
            self._reader.activations(self._model, page.run.id, page.layer, page.neuron, text)
        )

    def context(self, context_id: SupportsIndex) -> Example:
        """A whole context that is an example of the neuron. Raises NeurariumError."""
        page = self.page
        found = self._reader.context(
            self._model,
            page.run.id,
            page.layer,
            page.neuron,
            number("context_id", context_id),
        )
        return Example(found.example)

    def compare(self, other: Neuron) -> Comparison:
        """This neuron beside another of the same store: shared contexts, correlation of peaks."""
        return self._reader.compare(self._place(), other._place())

    def _place(self) -> NeuronPlace:
        page, name = self.page, self.page.run.name
        return NeuronPlace(name.model, page.layer, page.neuron, page.run.id, name.set)

    def to_dict(self) -> dict[str, Any]:
        """The same as the API's JSON."""
        return self.page.model_dump(mode="json")

    def __repr__(self) -> str:
        page = self.page
        unit = page.run.units.label(page.neuron, page.name)
        return f"<{page.model} layer {page.layer} {unit}: max {page.stats.max:.4g}>"

    def _repr_html_(self) -> str:
        """The neuron's card, for notebooks."""
        from neurarium.card import card

        return card(self.page)


def _all(page: Callable[[str | None], Any]) -> Callable[[], Iterator[Schema]]:
    """Reads all items of a list, page by page."""

    def items() -> Iterator[Schema]:
        cursor: str | None = None
        while True:
            part = page(cursor)
            yield from part.items
            cursor = part.next
            if cursor is None:
                return

    return items
