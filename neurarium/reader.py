"""How the objects read a store: the same answers from a database and from a server."""

from __future__ import annotations

from typing import Protocol

from app.compare.schemas import Comparison
from app.differences.schemas import Differences
from app.heads.schemas import HeadContext, HeadPage, HeadsPage
from app.live.neuron.schemas import LiveAnswer
from app.models.schemas import ModelPage, NeuronList
from app.neurons.schemas import ContextPage, NeuronPage
from app.schemas import Run
from app.search.numbers.schemas import NumberSearch
from app.search.schemas import TextSearch, TokenSearch
from app.web.address import NeuronPlace
from app.web.paths import DifferencesQuery, TokenQuery

PAGE = 1000
"""Rows asked for at a time: the most that the API gives."""


class Reader(Protocol):
    """Reads one store. `run` None is the model's default run; every method raises NeurariumError
    for what does not exist."""

    @property
    def place(self) -> str:
        """The database's or server's address, without a password."""

    def close(self) -> None:
        """Close all connections."""

    def models(self) -> list[str]:
        """The names of all models."""

    def model(self, model: str, run: int | None) -> ModelPage:
        """A model's layers."""

    def run(self, run: int) -> Run:
        """A run with its provenance."""

    def neurons(self, model: str, run: int | None, layer: int, cursor: str | None) -> NeuronList:
        """A page of a layer's neurons."""

    def neuron(self, model: str, run: int | None, layer: int, neuron: int) -> NeuronPage:
        """A neuron."""

    def context(
        self, model: str, run: int | None, layer: int, neuron: int, context: int
    ) -> ContextPage:
        """A whole context that is an example of a neuron."""

    def heads(self, model: str, run: int | None) -> HeadsPage:
        """All attention heads of a model, named without a set."""

    def head(self, model: str, run: int | None, layer: int, head: int) -> HeadPage:
        """An attention head."""

    def head_context(
        self, model: str, run: int | None, layer: int, head: int, context: int
    ) -> HeadContext:
        """A head's pattern over a whole context that is one of its examples."""

    def find(self, model: str, run: int | None, query: str, cursor: str | None) -> NumberSearch:
        """A page of the neurons whose statistics match a query."""

    def search(self, model: str, run: int | None, asked: TokenQuery) -> TokenSearch:
        """A page of the neurons of a token."""

    def search_text(self, model: str, run: int | None, text: str, cursor: str | None) -> TextSearch:
        """A page of the contexts with a text."""

    def differences(
        self, model: str, a: int | None, b: int | None, asked: DifferencesQuery
    ) -> Differences:
        """A page of what changed of each neuron between two runs."""

    def compare(self, a: NeuronPlace, b: NeuronPlace) -> Comparison:
        """Two neurons side by side."""

    def activations(
        self, model: str, run: int | None, layer: int, neuron: int, text: str
    ) -> LiveAnswer:
        """A neuron on a text, by the run's model."""
