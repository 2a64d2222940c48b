"""The pages of a static site: the server's neuron pages with fewer examples, and lists."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from jinja2 import Environment, FunctionLoader

from app.models.schemas import ModelPage
from app.neurons.schemas import NeuronPage
from app.neurons.summary import summary
from app.neurons.view import NeuronContext, neuron_view
from app.schemas import NeuronRow
from app.sets import name_of
from app.web import api_urls, urls
from app.web.frame import Context, Frame
from app.web.links import Links
from app.web.site import templates

_FRAMES = {"base.html": "publishing/base.html"}


@dataclass(frozen=True, slots=True)
class Kept:
    """The most examples of each kind on a page. A site of 1,000 neurons has to fit in 60 MB, so its
    pages also leave out the bars beside numbers, the chart of tokens by position, and token ids."""

    top: int = 10
    bands: int = 1
    random: int = 3
    bottom: int = 3


KEPT = Kept()


@dataclass(frozen=True, slots=True)
class IndexContext:
    """What `publishing/index.html` is rendered with."""

    frame: Frame
    page: ModelPage
    layers: list[LayerCount]
    count: int
    """Neurons of the site."""
    named: bool
    """Whether neurons have names."""
    kept: Kept


@dataclass(frozen=True, slots=True)
class LayerContext:
    """What `publishing/layer.html` is rendered with."""

    frame: Frame
    page: ModelPage
    layer: int
    rows: list[NeuronRow]


@dataclass(frozen=True, slots=True)
class LayerCount:
    """A layer, and how many of its neurons the site has."""

    layer: int
    neurons: int


_GONE = re.compile(
    r"<!--.*?-->"  # values of tokens without a colour, which a script reads
    r'|<script type="module"[^>]*></script>\n?'
    r'|<link rel="(?:prev|next|canonical|alternate)"[^>]*>\n?'
    r'|<nav class="(?:keep|readings|views)".*?</nav>\n?'
    r"|<noscript>.*?</noscript>\n?"
    r'|<figure class="positions">.*?</figure>\n?'
    r'|<svg class="bar .*?</svg>'
    r'|<details class="cite">.*?</details>\n?'
    r'|<p class="none">The first example of each\..*?</p>\n?'
    r'| · <a class="fetch"[^>]*>whole context</a>'
    r'|<a rel="nofollow" data-key="r"[^>]*>random</a>\n?'
    r'| <a href="/api/[^"]*">This page as JSON</a>\.'
    r"| \S+ more (?:token is|tokens are) in the JSON\."
    r'|, id \d+(?=">)',  # of tokens, in their titles
    re.DOTALL,
)
_PATH = re.compile(r' d="[^"]*"')
_ADDRESS = re.compile(r' href="(/[^"]*)"')


class Pages:
    """Renders the pages of one site."""

    def __init__(self, model: ModelPage, said: str, has: Callable[[int, int], bool]) -> None:
        """`said`: what the site holds, in a sentence; `has`: whether a neuron has a page."""
        self._model, self._said, self._has = model, said, has
        self._templates = _environment()
        self._name = name_of(model.model, model.run.units.set)
        self._links = Links(self._name)
        own = re.escape(urls.model(self._name))
        self._neuron = re.compile(rf"{own}/(\d+)/(\d+)")
        self._layer = re.compile(rf"{own}/(\d+)")
        self._token = re.compile(rf"{own}/search\?token_id=(\d+)")

    def neuron(self, page: NeuronPage) -> str:
        """A neuron's page."""
        # What it fires on is said of all top examples, not of those shown.
        whole = summary(page, self._links.tokens())
        page = _shorter(page)
        view = replace(neuron_view(page, "peak", self._links), bins=[], summary=whole)
        context = NeuronContext(
            frame=Frame(self._links, json_url=api_urls.neuron(page.model, page.layer, page.neuron)),
            page=page,
            view=view,
            layout="peak",
            titled_url=None,
            origin="",
            live=None,
            notes=None,
        )
        html = self._render("neurons/neuron.html", "../", context)
        html = _PATH.sub(lambda path: path[0].replace(".0", ""), _GONE.sub("", html))
        return _ADDRESS.sub(self._address, html)

    def layer(self, layer: int, rows: list[NeuronRow]) -> str:
        """The list of a layer's neurons."""
        context = LayerContext(Frame(self._links), self._model, layer, rows)
        return self._render("publishing/layer.html", "../", context)

    def index(self, counts: dict[int, int], *, named: bool) -> str:
        """The first page; `counts` are the neurons of each layer that has any, and `named` whether
        they have names."""
        layers = [LayerCount(layer, neurons) for layer, neurons in sorted(counts.items())]
        total = sum(counts.values())
        context = IndexContext(Frame(self._links), self._model, layers, total, named, KEPT)
        return self._render("publishing/index.html", "", context)

    def _render(self, template: str, home: str, context: Context) -> str:
        """A page; `home` leads to the site's folder."""
        names = {field.name: getattr(context, field.name) for field in fields(context)}
        made = self._templates.get_template(template)
        return made.render(links=self._links, home=home, said=self._said, **names)

    def _address(self, match: re.Match[str]) -> str:
        """A link of the server as one of the site; nothing where the site has no such page."""
        address = match[1]
        if neuron := self._neuron.fullmatch(address):
            if self._has(int(neuron[1]), int(neuron[2])):
                return f' href="../{neuron[1]}/{neuron[2]}.html"'
        elif layer := self._layer.fullmatch(address):
            return f' href="../{layer[1]}/index.html"'
        elif address in (urls.home(), urls.model(self._model.model), urls.model(self._name)):
            return ' href="../index.html"'
        elif token := self._token.match(address):
            return f' href="../index.html#token={token[1]}"'
        return ""


def _shorter(page: NeuronPage) -> NeuronPage:
    """The page with the examples that a static page has room for."""
    examples = page.examples
    few = examples.model_copy(
        update={
            "top": examples.top[: KEPT.top],
            "bottom": examples.bottom[: KEPT.bottom],
            "random": examples.random[: KEPT.random],
            "bands": [
                band.model_copy(update={"examples": band.examples[: KEPT.bands]})
                for band in examples.bands
            ],
            "sources": [],
        }
    )
    return page.model_copy(update={"examples": few, "other_runs": []})


def _environment() -> Environment:
    """The server's templates, with the frame of a static page."""
    made = templates()
    inner = made.loader
    assert inner is not None

    def load(name: str) -> str:
        source, _, _ = inner.get_source(made, _FRAMES.get(name, name))
        return source

    made.loader = FunctionLoader(load)
    return made
