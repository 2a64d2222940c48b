"""The pages of a static site: the server's pages with fewer examples, and the search."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

from jinja2 import Environment, FunctionLoader

from app.heads.picture import HeadsView, heads_view
from app.heads.schemas import HeadPage, HeadsPage
from app.heads.scores import DEFAULT
from app.heads.view import HeadContextOfPage, head_view
from app.models import view as models
from app.models.schemas import Gallery, LayerPage, LayerScatter, ModelPage
from app.models.view import GalleryGroup, LayerContext, ModelView
from app.neurons.schemas import NeuronPage
from app.neurons.summary import summary
from app.neurons.view import NeuronContext, neuron_view
from app.notes.view import Box, box
from app.publishing.compact import compact
from app.schemas import Note
from app.web import api_urls, urls
from app.web.frame import Context, Frame
from app.web.links import Links
from app.web.site import templates
from indexer.store.units import HEADS

_FRAMES = {"base.html": "publishing/base.html"}


@dataclass(frozen=True, slots=True)
class Kept:
    """The most examples of each kind on a page. A site of 1,000 neurons has to fit in 60 MB, so its
    pages also leave out the bars beside numbers, and what their text says elsewhere."""

    top: int = 8
    bands: int = 1
    random: int = 3
    bottom: int = 2
    sources: int = 1


KEPT = Kept()


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """What a site holds."""

    noun: str
    count: int
    """Units of the site."""
    of: int
    """Units of the run."""
    sparse: bool
    heads: bool
    """Whether they are attention heads, which have scores."""
    named: bool = False
    """Whether they have names."""
    kept: Kept | None = KEPT
    """None: its pages have all examples."""


@dataclass(frozen=True, slots=True)
class StaticModel:
    """What `publishing/index.html` is rendered with."""

    frame: Frame
    page: ModelPage
    view: ModelView
    gallery: list[GalleryGroup]
    live: bool
    site: SiteFacts
    heads: HeadsView | None = None
    """A site is of one set of units."""


@dataclass(frozen=True, slots=True)
class StaticHeads:
    """What `publishing/heads.html` is rendered with."""

    frame: Frame
    page: HeadsPage
    view: HeadsView
    site: SiteFacts


_GONE = re.compile(
    r"<!--.*?-->"  # values of tokens without a colour, which a script reads
    r'|<script type="module"[^>]*></script>\n?'
    r'|<link rel="(?:prev|next|canonical|alternate)"[^>]*>\n?'
    r'|<nav class="(?:keep|readings|views|choice|parts)[^"]*".*?</nav>\n?'
    r'|<form class="(?:axes|ticks)".*?</form>\n?'
    r'|<input class="tick"[^>]*> ?'
    r"|<noscript>.*?</noscript>\n?"
    r'|<svg class="bar .*?</svg>'
    r'|<details class="cite">.*?</details>\n?'
    r'|<a href="[^"]*/sources">All [^<]*, by source</a>'
    r'|<p class="hint">This server’s notes are read-only\.</p>\n?'
    r'| · <a (?:class="fetch" )?[^>]*>whole context</a>'
    r'|<a rel="nofollow" data-key="r"[^>]*>[^<]*</a>\n?'
    r'| <a href="/api/[^"]*">This page as JSON</a>\.'
    r'| ?<a href="/api/[^"]*" type="application/json">As JSON</a>'
    r"| \S+ more (?:token is|tokens are) in the JSON\."
    r'| title="id \d+"(?=>)|, id \d+(?=">)'  # of tokens, in their titles
    r'|(?<=<abbr) title="[^"]*"'  # definitions, which the text below the charts repeats
    r'|(?<=<b class="value") title="[^"]*"'  # the exact peak, which the peak itself says
    r'|(?<=<td class="num) measure(?=">)',  # beside the bars
    re.DOTALL,
)
_STEP = re.compile(r'<a(?: (?:rel|data-key)="[^"]*")+>.*?</a>\n?', re.DOTALL)
"""A step to what the site does not have, once its address is gone."""
_ADDRESS = re.compile(r' href="(/[^"]*)"')
_TOKEN = re.compile(r"[?&]token_id=(\d+)")


class Pages:
    """Renders the pages of one site."""

    def __init__(
        self,
        model: ModelPage,
        layers: set[int],
        has: Callable[[int, int], bool],
        *,
        pieces: bool,
    ) -> None:
        """`layers`: those of which the site has any unit; `has`: whether a unit has a page;
        `pieces`: whether word pieces are marked."""
        self._pieces = pieces
        self._model, self._layers, self._has = model, layers, has
        self._made_of = f"This site was made of run {model.run.id} by Neurarium."
        self._templates = _environment()
        self._name = model.run.name
        self._links = Links(self._name)
        home = re.escape(urls.model(self._name))
        self._unit = re.compile(rf"{home}/(\d+)(?:/(\d+))?")
        self._search = re.compile(rf"{home}/search\?")

    def neuron(self, page: NeuronPage, notes: Sequence[Note]) -> str:
        """A unit's page, with the notes on it, newest first."""
        # The summary counts all top examples, and the page shows fewer.
        whole = summary(page, self._links.tokens())
        page = _shorter(page)
        view = replace(neuron_view(page, "peak", self._links), bins=[], summary=whole)
        context = NeuronContext(
            frame=Frame(self._links, json_url=self._links.api_neuron(page.layer, page.neuron)),
            page=page,
            view=view,
            layout="peak",
            titled_url=None,
            origin="",
            live=None,
            notes=_box(notes),
        )
        return self._render("neurons/neuron.html", "../", context)

    def head(self, page: HeadPage, notes: Sequence[Note]) -> str:
        """An attention head's page."""
        view = head_view(page, self._links, lambda _: ("", ""))
        frame = Frame(self._links, json_url=self._links.api_neuron(page.layer, page.head))
        context = HeadContextOfPage(frame, page, view, None, _box(notes))
        return self._render("heads/head.html", "../", context)

    def layer(self, page: LayerPage, scatter: LayerScatter) -> str:
        """A layer's page: the plot and the table of its units on the site."""
        layer, noun = page.summary.layer, page.run.units.noun
        context = LayerContext(
            frame=Frame(self._links),
            page=page,
            picture=None,
            view=None,
            plot=models.plot(scatter, self._links.neurons_of_layer(layer), noun),
            cursor=None,
            limit=None,
            shown={"first": 0},
            sorted={},
            beside=models.beside(layer, self._layers),
            measured=models.measured(page),
        )
        count, of = len(page.neurons.items), page.summary.neurons
        part = "" if count == of else f"It has {count:,} of the layer's {of:,} {noun}s. "
        return self._render("models/layer.html", "../", context, part)

    def index(self, gallery: Gallery, count: int, *, named: bool) -> str:
        """The first page of a site with `count` units, which may have names."""
        page = self._model
        layers = [layer for layer in page.layers if layer.layer in self._layers]
        shown = [one for one in gallery.items if self._has(one.neuron.layer, one.neuron.neuron)]
        context = StaticModel(
            frame=Frame(self._links, embed=True),
            page=page.model_copy(update={"layers": layers, "sets": [], "other_runs": []}),
            view=models.model(page.model_copy(update={"layers": layers})),
            gallery=models.gallery([(gallery.model_copy(update={"items": shown}), self._links)]),
            live=False,
            site=self._facts(count, named, KEPT),
        )
        return self._render("publishing/index.html", "", context)

    def heads(self, page: HeadsPage, count: int) -> str:
        """The first page of a site with `count` attention heads."""
        view = heads_view(page, DEFAULT, self._links, lambda _: "")
        frame = Frame(self._links, json_url=api_urls.heads(page.model))
        context = StaticHeads(frame, page, view, self._facts(count, False, None))
        return self._render("publishing/heads.html", "", context)

    def _facts(self, count: int, named: bool, kept: Kept | None) -> SiteFacts:
        units = self._model.run.units
        return SiteFacts(
            units.noun,
            count,
            self._model.n_neurons,
            units.sparse,
            units.set == HEADS,
            named,
            kept,
        )

    def _render(self, template: str, home: str, context: Context, said: str = "") -> str:
        """A page; `home` leads to the site's folder."""
        names = {field.name: getattr(context, field.name) for field in fields(context)}
        html = self._templates.get_template(template).render(
            links=self._links, home=home, pieces=self._pieces, said=said + self._made_of, **names
        )
        html = _ADDRESS.sub(lambda found: self._address(found[1], home), _GONE.sub("", html))
        return compact(_STEP.sub("", html))

    def _address(self, address: str, home: str) -> str:
        """A link of the server as one of the site; nothing where the site has no such page."""
        if address in (urls.home(), urls.model(self._model.model), urls.model(self._name)):
            return f' href="{home}index.html"'
        if self._search.match(address) and (token := _TOKEN.search(address)):
            return f' href="{home}index.html#t{token[1]}"'
        if unit := self._unit.fullmatch(address):
            layer, index = int(unit[1]), unit[2]
            if index is None and layer in self._layers:
                return f' href="{home}{layer}/index.html"'
            if index is not None and self._has(layer, int(index)):
                return f' href="{home}{layer}/{index}.html"'
        return ""


def _box(notes: Sequence[Note]) -> Box | None:
    """The notes on a unit; None if there are none, since a static site cannot take notes."""
    return box("", list(notes), len(notes), writable=False) if notes else None


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
            "sources": [
                source.model_copy(update={"examples": source.examples[: KEPT.sources]})
                for source in examples.sources
            ],
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
