"""Reads a server over HTTP, into the same objects as a database is read into."""

from __future__ import annotations

import json
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from pydantic import BaseModel, ValidationError

from app.compare.schemas import Comparison
from app.differences.schemas import Differences
from app.heads.schemas import HeadContext, HeadPage, HeadsPage
from app.lists.entries import full_text
from app.live.neuron.schemas import LiveAnswer
from app.models.schemas import ModelList, ModelPage, NeuronList
from app.neurons.schemas import ContextPage, NeuronPage
from app.schemas import Health, Run
from app.search.numbers.schemas import NumberSearch
from app.search.schemas import TextSearch, TokenSearch
from app.sets import ModelSet
from app.web import api_urls
from app.web.address import NeuronPlace
from app.web.paths import DifferencesQuery, TokenQuery
from indexer.errors import NeurariumError
from neurarium.objects import Store
from neurarium.reader import PAGE

_SECONDS = 60
Answer = TypeVar("Answer", bound=BaseModel)


def remote_store(url: str) -> Store:
    """The store of a server. Raises NeurariumError if no Neurarium answers."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise NeurariumError(f"{url!r} is not a server's address: use http://HOST:PORT.")
    reader = Remote(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}")
    reader.check()
    return Store(reader)


class Remote:
    """The `Reader` of a server."""

    def __init__(self, place: str) -> None:
        self.place = place

    def check(self) -> None:
        """Raises NeurariumError unless a Neurarium server answers."""
        self._get("/healthz", Health)

    def close(self) -> None:
        """Nothing stays open."""

    def models(self) -> list[str]:
        """The names of all models."""
        names: list[str] = []
        cursor: str | None = None
        while True:
            page = self._get(api_urls.models(limit=PAGE, cursor=cursor), ModelList)
            names += [item.model for item in page.items]
            cursor = page.next
            if cursor is None:
                return names

    def model(self, model: str, run: int | None) -> ModelPage:
        """A model's layers."""
        return self._get(api_urls.model(ModelSet.parse(model), run=run), ModelPage)

    def run(self, run: int) -> Run:
        """A run with its provenance."""
        return self._get(api_urls.run(run), Run)

    def neurons(self, model: str, run: int | None, layer: int, cursor: str | None) -> NeuronList:
        """A page of a layer's neurons."""
        path = api_urls.neurons(ModelSet.parse(model), layer, run=run, limit=PAGE, cursor=cursor)
        return self._get(path, NeuronList)

    def neuron(self, model: str, run: int | None, layer: int, neuron: int) -> NeuronPage:
        """A neuron."""
        return self._get(api_urls.neuron(ModelSet.parse(model), layer, neuron, run=run), NeuronPage)

    def context(
        self, model: str, run: int | None, layer: int, neuron: int, context: int
    ) -> ContextPage:
        """A whole context that is an example of a neuron."""
        return self._get(
            api_urls.context(ModelSet.parse(model), layer, neuron, context, run=run), ContextPage
        )

    def heads(self, model: str, run: int | None) -> HeadsPage:
        """All attention heads of a model, named without a set."""
        return self._get(api_urls.heads(model, run=run), HeadsPage)

    def head(self, model: str, run: int | None, layer: int, head: int) -> HeadPage:
        """An attention head."""
        return self._get(api_urls.head(model, layer, head, run=run), HeadPage)

    def head_context(
        self, model: str, run: int | None, layer: int, head: int, context: int
    ) -> HeadContext:
        """A head's pattern over a whole context that is one of its examples."""
        return self._get(api_urls.head_context(model, layer, head, context, run=run), HeadContext)

    def find(self, model: str, run: int | None, query: str, cursor: str | None) -> NumberSearch:
        """A page of the neurons whose statistics match a query."""
        path = api_urls.search_numbers(
            ModelSet.parse(model), q=query, limit=PAGE, cursor=cursor, run=run
        )
        return self._get(path, NumberSearch)

    def search(self, model: str, run: int | None, asked: TokenQuery) -> TokenSearch:
        """A page of the neurons of a token."""
        path = api_urls.token_neurons(ModelSet.parse(model), run=run, **asked)
        return self._get(path, TokenSearch)

    def search_text(self, model: str, run: int | None, text: str, cursor: str | None) -> TextSearch:
        """A page of the contexts with a text."""
        path = api_urls.text(ModelSet.parse(model), text, cursor=cursor, run=run)
        return self._get(path, TextSearch)

    def differences(
        self, model: str, a: int | None, b: int | None, asked: DifferencesQuery
    ) -> Differences:
        """A page of what changed of each neuron between two runs."""
        path = api_urls.differences(ModelSet.parse(model), a, b, **asked)
        return self._get(path, Differences)

    def compare(self, a: NeuronPlace, b: NeuronPlace) -> Comparison:
        """Two neurons side by side."""
        return self._get(api_urls.compare(full_text(a), full_text(b)), Comparison)

    def activations(
        self, model: str, run: int | None, layer: int, neuron: int, text: str
    ) -> LiveAnswer:
        """A neuron on a text, if the server runs models."""
        path = api_urls.activations(ModelSet.parse(model), layer, neuron, run=run)
        return self._get(path, LiveAnswer, {"text": text})

    def _get(self, path: str, kind: type[Answer], sent: Any = None) -> Answer:
        """An answer of the API; `sent` is posted as JSON."""
        body = None if sent is None else json.dumps(sent).encode()
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            with urlopen(Request(self.place + path, body, headers), timeout=_SECONDS) as answer:
                content = answer.read()
        except HTTPError as error:
            raise NeurariumError(_detail(error)) from None
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise NeurariumError(
                f"No server answers at {self.place} ({reason}): start one with `neurarium serve`, "
                "or check the address."
            ) from None
        try:
            return kind.model_validate_json(content)
        except ValidationError:
            raise NeurariumError(
                f"What answers at {self.place} is not this version of Neurarium: its answer to "
                f"{path} has another form."
            ) from None


def _detail(error: HTTPError) -> str:
    """The message of a failed request."""
    try:
        return str(json.loads(error.read())["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{error.url} answers {error.code} {error.reason}: is it a Neurarium server?"
