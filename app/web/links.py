"""The links of a page, which carry on its model, run and view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Unpack

from app.schemas import NeuronRef, View
from app.sets import ModelSet
from app.web import api_urls, urls
from app.web.paths import DifferencesQuery, LayerQuery, Name, TextQuery


@dataclass(frozen=True, slots=True)
class Links:
    """Makes the addresses that one page links to, all of one model, run and view."""

    model: Name
    """The model and its set of units."""
    run: int | None = None
    """The run that addresses name; None: the default run, which they leave out."""
    view: View | None = None
    """The layout of examples that addresses name; None: the default, which they leave out."""

    @property
    def name(self) -> ModelSet:
        """The model and its set of units."""
        return ModelSet(self.model) if isinstance(self.model, str) else self.model

    def in_set(self, units: ModelSet) -> Links:
        """The same links in the default run of another set of units."""
        return replace(self, model=units, run=None)

    def in_run(self, run: int | None) -> Links:
        """The same links in another run of the model."""
        return replace(self, run=run)

    def in_view(self, view: View) -> Links:
        """The same links with another view, which is named even if it is the default."""
        return replace(self, view=view)

    def to_model(self) -> str:
        """The model's page."""
        return urls.model(self.model, run=self.run)

    def to_default_run(self) -> str:
        """The page of the model's default run."""
        return urls.model(self.model)

    def layer(
        self,
        layer: int,
        **query: Unpack[LayerQuery],
    ) -> str:
        """A layer's page."""
        return urls.layer(self.model, layer, run=self.run, **query)

    def neuron(self, layer: int, neuron: int, *, titles: str | None = None) -> str:
        """A neuron's page."""
        return urls.neuron(self.model, layer, neuron, run=self.run, view=self.view, titles=titles)

    def neuron_ref(self, ref: NeuronRef) -> str:
        """As `neuron`, from layer and neuron in one object."""
        return self.neuron(ref.layer, ref.neuron)

    def neurons(self) -> Callable[[int, int], str]:
        """A function from layer and neuron to the neuron's page, for pages with many links."""
        return urls.neurons(self.model, run=self.run, view=self.view)

    def neurons_of_layer(self, layer: int) -> tuple[str, str]:
        """The parts before and after a neuron's index in the addresses of a layer's neurons."""
        return urls.neurons_of_layer(self.model, layer, run=self.run, view=self.view)

    def random(self, layer: int | None = None) -> str:
        """A random neuron of the model or of a layer."""
        return urls.random(self.model, layer, run=self.run, view=self.view)

    def sources(self, layer: int, neuron: int, *, titles: str | None = None) -> str:
        """A neuron's examples by source."""
        return urls.sources(self.model, layer, neuron, run=self.run, view=self.view, titles=titles)

    def context(self, layer: int, neuron: int, context_id: int) -> str:
        """A whole context that is an example of a neuron."""
        return self.contexts(layer, neuron)(context_id)

    def contexts(self, layer: int, neuron: int) -> Callable[[int], str]:
        """A function from a context's id to the page of the whole context, at one neuron."""
        return urls.contexts(self.model, layer, neuron, run=self.run, view=self.view)

    def context_neurons(
        self, context_id: int, *, at: int | None = None, cursor: str | None = None
    ) -> str:
        """A context with the neurons that peak in it, or at the position `at`."""
        return urls.context_neurons(self.model, context_id, at=at, cursor=cursor, run=self.run)

    def notes(self, layer: int, neuron: int, *, cursor: str | None = None) -> str:
        """All notes on a neuron."""
        return urls.notes(self.model, layer, neuron, run=self.run, view=self.view, cursor=cursor)

    def all_notes(self, *, cursor: str | None = None) -> str:
        """The notes on all neurons of the model."""
        return urls.all_notes(self.model, cursor=cursor, run=self.run)

    def try_text(self, layer: int, neuron: int) -> str:
        """Where the form with a text for one neuron is sent."""
        return urls.try_text(self.model, layer, neuron, run=self.run)

    def steer(self, layer: int, neuron: int) -> str:
        """Where a text is steered with one neuron."""
        return urls.steer(self.model, layer, neuron, run=self.run)

    def behaviour(self) -> str:
        """The search by custom text, and where its form is sent."""
        return urls.behaviour(self.model, run=self.run)

    def ablation(self, n: str | None = None) -> str:
        """Several neurons ablated on a custom text, and where its form is sent; `n`: the neurons
        to put into it."""
        return urls.ablation(self.model, n=n, run=self.run)

    def differences(
        self,
        a: int | None = None,
        b: int | None = None,
        **query: Unpack[DifferencesQuery],
    ) -> str:
        """What changed of each neuron between two runs of the model."""
        return urls.differences(self.model, a, b, **query)

    def search(self, **query: Unpack[TextQuery]) -> str:
        """The search by token and text."""
        return urls.search(self.model, run=self.run, **query)

    def tokens(self) -> Callable[[int, str | None], str]:
        """A function from token id and role to the search for the token."""
        return urls.tokens(self.model, run=self.run)

    def search_numbers(self, *, q: str | None = None, cursor: str | None = None) -> str:
        """The search by statistics."""
        return urls.search_numbers(self.model, q=q, cursor=cursor, run=self.run)

    def named(self, layer: int, neuron: int) -> str:
        """A neuron as comparisons and lists name it."""
        return urls.named(self.model, layer, neuron, run=self.run)

    def api_neuron(self, layer: int, neuron: int) -> str:
        """JSON: a neuron."""
        return api_urls.neuron(self.model, layer, neuron, run=self.run)

    def api_gallery(self) -> str:
        """JSON: the model's gallery."""
        return api_urls.gallery(self.model, run=self.run)

    def api_picture(self, layer: int, stat: str, *, first: int | None = None) -> str:
        """JSON: one statistic of all of a layer's neurons."""
        return api_urls.picture(self.model, layer, stat, run=self.run, first=first)

    def api_scatter(self, layer: int, x: str, y: str, *, first: int | None = None) -> str:
        """JSON: two statistics of a layer's neurons."""
        return api_urls.scatter(self.model, layer, x, y, run=self.run, first=first)

    def api_tokens(self) -> str:
        """JSON: tokens that begin with a text."""
        return api_urls.tokens(self.model, run=self.run)
