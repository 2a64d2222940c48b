"""Templates rendered with sample pages: sound markup, hostile text, links and headings."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from typing import Any

import pytest
from pydantic import BaseModel

from app.models import view as layer_view
from app.models.schemas import LayerPage, ModelList, ModelPage
from app.neurons import view as present
from app.neurons.schemas import ContextPage, NeuronPage
from app.runs import view as provenance
from app.schemas import Error, Run
from app.web import site
from app.web.failures import ErrorContext
from app.web.frame import Frame
from app.web.links import Links
from tests.helpers import sample_neurons as neurons
from tests.helpers import sample_pages as pages

VOID = {"meta", "link", "br", "img", "input", "hr"}
ELEMENTS = set(
    "a abbr b body button caption code details div dl dt dd figcaption figure footer form g h1 h2 "
    "h3 head header html i input kbd label li link main mark meta nav noscript ol p path pre rect "
    "script section small span summary svg table tbody td text th thead time title tr tspan ul "
    "desc".split()
)


class Outline(HTMLParser):
    """Checks nesting and attributes while it reads, and keeps what tests ask about."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[int] = []
        self.refers: list[str] = []
        self.text: list[str] = []
        self.scripts: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given_attrs = dict(attrs)
        assert tag in ELEMENTS, tag
        assert not [name for name in given_attrs if name == "style" or name.startswith("on")]
        if tag == "a":
            self.links.append(given_attrs["href"] or "")
        if tag == "script":
            self.scripts.append(given_attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "id" in given_attrs:
            self.ids.append(given_attrs["id"] or "")
        self.refers += (given_attrs.get("aria-labelledby") or "").split()
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def render(template: str, page: BaseModel, run: int | None = None, **extra: Any) -> str:
    """A page as its route renders it, of the run that links name."""
    links = Links("demo", run)
    frame = Frame(links, json_url="/api/v1/x", canonical="/x")
    context: Any
    match page:
        case ModelList():
            context = layer_view.HomeContext(
                replace(frame, links=None),
                page,
                {item.model: item.n_layers for item in page.items},
                {item.model: [] for item in page.items},
                [],
                limit=None,
                **extra,
            )
        case ModelPage():
            context = layer_view.ModelContext(frame, page, layer_view.model(page), [], True, None)
        case LayerPage():
            drawn = pages.picture(pages.layer_page())
            context = layer_view.LayerContext(
                frame=frame,
                page=page,
                picture=drawn,
                view=layer_view.layer(drawn, links.neurons_of_layer(1)),
                plot=None,
                limit=None,
                shown=layer_view.shown(drawn, None),
                sorted={"sort": page.sort, "order": page.order},
                beside=layer_view.beside(page.summary.layer, range(4)),
                measured=layer_view.measured(page),
                **extra,
            )
        case ContextPage():
            context = present.ExampleContext(frame, page, present.context_view(page))
        case NeuronPage():
            layout = extra.get("layout", "peak")
            shared: dict[str, Any] = {"frame": frame, "page": page, "layout": layout}
            shared["titled_url"] = "/toy/0/0?titles=all"
            if template == "neurons/sources.html":
                context = present.SourcesContext(
                    view=present.sources_view(page, layout, links), **shared
                )
            else:
                view = present.neuron_view(page, layout, links)
                origin = "http://127.0.0.1:8000"
                context = present.NeuronContext(
                    view=view, origin=origin, live=None, notes=None, **shared
                )
        case Run():
            context = provenance.RunContext(frame, page, provenance.tables(page, 2))
        case Error():
            context = ErrorContext(Frame(typed="demo/1/4500"), page, [("demo 1/9", "/demo/1/9")])
        case _:
            raise AssertionError(page)
    names = {field.name: getattr(context, field.name) for field in fields(context)}
    template_of = site.templates().get_template(template)
    return template_of.render(links=context.frame.links, **names)


def outline(html: str) -> Outline:
    """The page read through, well nested to the end."""
    parsed = Outline()
    parsed.feed(html)
    parsed.close()
    assert parsed.open == []
    return parsed


PAGES: dict[str, tuple[str, BaseModel, dict[str, Any]]] = {
    "home": ("models/home.html", pages.model_list(), {"cursor": None}),
    "nothing indexed": (
        "models/home.html",
        ModelList(items=[], next=None),
        {"cursor": None},
    ),
    "last models": (
        "models/home.html",
        ModelList(items=[], next=None),
        {"cursor": "x"},
    ),
    "model": ("models/model.html", pages.model_page(), {}),
    "model of a run": ("models/model.html", pages.model_page(30), {"run": 3}),
    "layer": (
        "models/layer.html",
        pages.layer_page(),
        {"cursor": None},
    ),
    "layer's end": (
        "models/layer.html",
        pages.layer_page(0),
        {"run": 3, "cursor": "x"},
    ),
    "neuron": ("neurons/neuron.html", neurons.neuron_page(), {}),
    "neuron's windows": ("neurons/neuron.html", neurons.neuron_page(), {"layout": "window"}),
    "neuron's contexts": ("neurons/neuron.html", neurons.neuron_page(), {"layout": "context"}),
    "smooth neuron": ("neurons/neuron.html", neurons.neuron_page(neurons.smooth), {}),
    "gated neuron": ("neurons/neuron.html", neurons.gated_page(), {}),
    "negative neuron": ("neurons/neuron.html", neurons.negative_page(), {"run": 3}),
    "empty neuron": ("neurons/neuron.html", neurons.empty_page(), {}),
    "hostile neuron": ("neurons/neuron.html", neurons.hostile_page(), {}),
    "hostile windows": ("neurons/neuron.html", neurons.hostile_page(), {"layout": "window"}),
    "hostile contexts": ("neurons/neuron.html", neurons.hostile_page(), {"layout": "context"}),
    "sources": ("neurons/sources.html", neurons.gated_page(), {}),
    "hostile sources": ("neurons/sources.html", neurons.hostile_page(), {}),
    "context": ("neurons/context.html", neurons.context_page(), {}),
    "hostile context": (
        "neurons/context.html",
        neurons.context_page(example=neurons.hostile_page().examples.top[0]),
        {},
    ),
    "run": ("runs/run.html", pages.run_page(), {}),
    "error": ("error.html", pages.error_page(), {}),
}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_sound(name: str) -> None:
    """Known elements only, well nested, no inline style or handler, one h1, no id twice."""
    template, page, context = PAGES[name]
    html = render(template, page, **context)
    html.encode()
    parsed = outline(html)
    assert parsed.headings.count(1) == 1
    assert parsed.headings[0] == 1
    steps = zip(parsed.headings, parsed.headings[1:], strict=False)
    assert all(below - above <= 1 for above, below in steps)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(parsed.refers) <= set(parsed.ids)
    assert all(script["src"] for script in parsed.scripts)
    assert all(link.startswith(("/", "#")) for link in parsed.links)
    assert all(link[1:] in parsed.ids for link in parsed.links if link.startswith("#"))


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("hostile")])
def test_hostile_tokens_stay_text(name: str) -> None:
    """They are all there to be read, and none became an element."""
    template, page, context = PAGES[name]
    text = "".join(outline(render(template, page, **context)).text)
    for told in ("<script>alert(1)</script>", "{{ page }}", "‹U+202E›", "‹NUL›", "‹U+D800›"):
        assert told in text or name == "hostile sources"
    assert not set("\u202e\u200b\u200d\u2066\ufeff\x00") & set(text)
    assert "W" * 1001 not in text


def test_first_and_last_neuron_have_no_dead_link() -> None:
    """No link, rather than one to nothing."""
    first = render("neurons/neuron.html", neurons.empty_page())
    last = render("neurons/neuron.html", neurons.negative_page())
    assert 'rel="prev"' not in first
    assert 'rel="next"' in first
    assert 'rel="next"' not in last
    assert 'rel="prev"' in last


@pytest.mark.parametrize("name", ["model of a run", "layer's end", "negative neuron"])
def test_links_carry_the_run(name: str) -> None:
    """Every link inside the model names the run, but for the one back to the default."""
    template, page, context = PAGES[name]
    links = outline(render(template, page, **context)).links
    inside = [link for link in links if re.match(r"/demo(/(?!differences)|\?|$)", link)]
    assert len([link for link in inside if "run=" not in link]) == 1
    assert any(link.endswith("run=3") for link in inside)


def test_layer_table_says_and_turns_its_order() -> None:
    """The sorted column is marked; its link turns the order, the others sort by themselves."""
    html = render("models/layer.html", pages.layer_page(), cursor=None)
    assert re.findall(r'aria-sort="(\w+)"', html) == ["descending"]
    assert "/demo/1?picture=max&amp;sort=max&amp;order=asc" in html
    assert "/demo/1?picture=max&amp;sort=density&amp;order=desc" in html
    assert "/demo/1?picture=max&amp;sort=neuron&amp;order=asc" in html
    assert "cursor=WzMuMTQsIDQ1XQ" in html


def test_empty_home_says_what_to_do() -> None:
    """The command to run stands there."""
    assert "neurarium index demo" in render(*PAGES["nothing indexed"][:2], cursor=None)
