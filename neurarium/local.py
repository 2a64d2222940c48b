"""Reads a database in this process, with the queries that the server's pages use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.compare import queries as compare
from app.compare.schemas import Comparison
from app.differences import queries as differences
from app.differences.schemas import Differences
from app.errors import AppError
from app.heads import queries as heads
from app.heads.schemas import HeadContext, HeadPage, HeadsPage
from app.live.models import Models
from app.live.neuron.answer import answer
from app.live.neuron.schemas import LiveAnswer
from app.models import queries as models
from app.models.schemas import ModelPage, NeuronList
from app.neurons import queries as neurons
from app.neurons.schemas import ContextPage, NeuronPage
from app.reading.noted import Page, noted
from app.reading.runs import model_names
from app.reading.store import Store as Reading
from app.runs.queries import run as read_run
from app.schemas import NEWEST_NOTES, Note, Run
from app.search import texts, tokens
from app.search.numbers import queries as numbers
from app.search.numbers.grammar import GrammarError, parse
from app.search.numbers.schemas import NumberSearch
from app.search.schemas import TextSearch, TokenSearch
from app.sets import ModelSet
from app.settings import from_environment
from app.web.address import NeuronPlace
from app.web.paths import DifferencesQuery, TokenQuery
from indexer.errors import NeurariumError
from indexer.store import notes
from indexer.store.database import open_store, without_password
from indexer.store.units import HEADS
from neurarium.objects import Store
from neurarium.reader import PAGE

_MOST_TOKENS = 4096
"""The most tokens of a text, if the model has as many positions."""


def database_url(database: str | Path | None) -> str:
    """The address of a database: a path is an SQLite file, None the command's default."""
    if database is None:
        return from_environment().database_url
    text = str(database)
    return text if "://" in text else f"sqlite:///{Path(text).expanduser()}"


def local_store(database: str | Path | None) -> Store:
    """The store in a database. Raises NeurariumError if there is none."""
    return Store(Local(database_url(database)))


class Local:
    """The `Reader` of a database."""

    def __init__(self, url: str) -> None:
        engine = open_store(url, create=False)
        self.url, self._engine = url, engine
        self.place = without_password(engine.url)
        self._store = Reading(engine)
        self._models = Models(None)

    def close(self) -> None:
        """Close all connections."""
        self._store.close()

    def models(self) -> list[str]:
        """The names of all models."""
        with self._store.connect() as connection:
            return model_names(connection)

    def model(self, model: str, run: int | None) -> ModelPage:
        """A model's layers."""
        with self._reading(model, run) as reading:
            return models.model(reading)

    def run(self, run: int) -> Run:
        """A run with its provenance."""
        with explained():
            return read_run(self._store, run)

    def neurons(self, model: str, run: int | None, layer: int, cursor: str | None) -> NeuronList:
        """A page of a layer's neurons."""
        with self._reading(model, run) as reading:
            page = models.layer(reading, layer, "neuron", "asc", PAGE, cursor).neurons
        return self._noted(page, model)

    def neuron(self, model: str, run: int | None, layer: int, neuron: int) -> NeuronPage:
        """A neuron, with its newest notes if the store has notes."""
        with self._reading(model, run) as reading:
            page = neurons.neuron(reading, layer, neuron)
        return self._with_notes(page, notes.Place(str(ModelSet.parse(model)), layer, neuron))

    def context(
        self, model: str, run: int | None, layer: int, neuron: int, context: int
    ) -> ContextPage:
        """A whole context that is an example of a neuron."""
        with self._reading(model, run) as reading:
            return neurons.context(reading, layer, neuron, context)

    def heads(self, model: str, run: int | None) -> HeadsPage:
        """All attention heads of a model, named without a set."""
        with self._reading(str(ModelSet(model, HEADS)), run) as reading:
            page = heads.heads(reading)
        return self._noted(page, str(ModelSet(model, HEADS)), "heads")

    def head(self, model: str, run: int | None, layer: int, head: int) -> HeadPage:
        """An attention head."""
        with self._reading(str(ModelSet(model, HEADS)), run) as reading:
            page = heads.head(reading, layer, head)
        return self._with_notes(page, notes.Place(str(ModelSet(model, HEADS)), layer, head))

    def head_context(
        self, model: str, run: int | None, layer: int, head: int, context: int
    ) -> HeadContext:
        """A head's pattern over a whole context that is one of its examples."""
        with self._reading(str(ModelSet(model, HEADS)), run) as reading:
            return heads.context(reading, layer, head, context)

    def find(self, model: str, run: int | None, query: str, cursor: str | None) -> NumberSearch:
        """A page of the neurons whose statistics match a query."""
        with self._reading(model, run) as reading:
            page = numbers.search(reading, parse(query), PAGE, cursor)
        return self._noted(page, model)

    def search(self, model: str, run: int | None, asked: TokenQuery) -> TokenSearch:
        """A page of the neurons of a token."""
        role: Any = asked.get("role")
        with self._reading(model, run) as reading:
            number = tokens.token_of(reading, asked.get("token"), asked.get("token_id"))
            page = tokens.search(reading, number, role, PAGE, asked.get("cursor"))
        return self._noted(page, model)

    def search_text(self, model: str, run: int | None, text: str, cursor: str | None) -> TextSearch:
        """A page of the contexts with a text."""
        with self._reading(model, run) as reading:
            return texts.search(reading, text, PAGE, cursor)

    def differences(
        self, model: str, a: int | None, b: int | None, asked: DifferencesQuery
    ) -> Differences:
        """A page of what changed of each neuron between two runs."""
        sort: Any = asked.get("sort")
        layer, cursor = asked.get("layer"), asked.get("cursor")
        name = ModelSet.parse(model)
        with explained(), self._store.connect() as connection:
            both = differences.readings(self._store, connection, name, a, b)
            page = differences.differences(*both, layer, sort, None, PAGE, cursor)
        return self._noted(page, model)

    def compare(self, a: NeuronPlace, b: NeuronPlace) -> Comparison:
        """Two neurons side by side."""
        with explained():
            return compare.compare(self._store, a, b)

    def activations(
        self, model: str, run: int | None, layer: int, neuron: int, text: str
    ) -> LiveAnswer:
        """A neuron on a text, by the run's model, which is loaded the first time."""
        page = self.neuron(model, run, layer, neuron)
        whole = self.run(page.run.id)
        with explained():
            return answer(self._models.get(whole), whole, page, text, _MOST_TOKENS)

    def _with_notes(self, page: Page, place: notes.Place) -> Page:
        """A unit's page with its newest notes, if the store has notes."""
        if not notes.exist(self._engine):
            return page
        rows = notes.read(self._engine, place, NEWEST_NOTES).rows
        items = [Note.model_validate(dict(row._mapping)) for row in rows]
        return page.model_copy(update={"notes": items})

    def _noted(self, page: Page, model: str, of: str = "items") -> Page:
        """A page of units with their newest notes."""
        name = str(ModelSet.parse(model))
        return noted(page, lambda places: notes.newest(self._engine, places), name, of)

    @contextmanager
    def _reading(self, model: str, run: int | None) -> Iterator[Any]:
        with explained(), self._store.reading(ModelSet.parse(model), run) as reading:
            yield reading


@contextmanager
def explained() -> Iterator[None]:
    """Turn an error of a page into a NeurariumError with the same words."""
    try:
        yield
    except AppError as error:
        raise NeurariumError(str(error)) from None
    except GrammarError as error:
        raise NeurariumError(error.detail) from None
