"""What templates show: numbers as text, views of pages, and the pages themselves, as markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from app import numbers, present, provenance, site
from app.schemas import Examples, ModelList
from tests import sample_pages as pages


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "—"),
        (0.0, "0"),
        (-0.0, "0"),
        (5.3, "5.30"),
        (-0.16990139, "−0.170"),
        (123.4, "123"),
        (12345.6, "12,346"),
        (0.000012345, "1.23e−5"),
        (2.5e12, "2.50e12"),
        (float("inf"), "inf"),
        (float("-inf"), "−inf"),
    ],
)
def test_number(value: float | None, shown: str) -> None:
    """Three significant digits, a true minus sign, powers of ten only at the far ends."""
    assert numbers.number(value) == shown


@settings(deadline=None)
@given(st.floats(width=32, allow_nan=False))
def test_exact_gives_the_same_float32_back(value: float) -> None:
    """Nothing of a peak is lost in its text."""
    text = numbers.exact(value).replace(numbers.MINUS, "-")
    assert np.float32(text) == np.float32(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0%"),
        (1, "100%"),
        (0.99999, ">99.9%"),
        (0.385, "38.5%"),
        (0.0731, "7.3%"),
        (0.00012, "0.012%"),
        (1e-9, "<0.001%"),
    ],
)
def test_share(value: float, shown: str) -> None:
    """Neither 0% nor 100% unless it is exactly that."""
    assert numbers.share(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(7, "7"), (1000, "1k"), (1234, "1.2k"), (46_080, "46k"), (2e6, "2M")]
)
def test_compact(value: float, shown: str) -> None:
    """Counts on an axis."""
    assert numbers.compact(value) == shown


def test_when_is_utc() -> None:
    """A time with a zone is converted, one without is taken as UTC."""
    moment = datetime(2026, 3, 14, 15, 9)
    assert numbers.when(moment) == "2026-03-14 15:09 UTC"
    assert numbers.when(moment.replace(tzinfo=UTC)) == "2026-03-14 15:09 UTC"
    east = timezone(timedelta(hours=5))
    assert numbers.when(moment.replace(tzinfo=east)) == "2026-03-14 10:09 UTC"


def test_flatten() -> None:
    """Dicts become dotted paths, plain lists one line, nothing is dropped."""
    value = {"a": {"b": 1, "c": None}, "d": [1, 2], "e": [{"f": True}, {"f": False}], "g": {}}
    assert provenance.flatten(value) == [
        ("a.b", "1"),
        ("a.c", "—"),
        ("d", "1, 2"),
        ("e.1.f", "yes"),
        ("e.2.f", "no"),
        ("g", "—"),
    ]


def test_run_shows_all_of_its_provenance() -> None:
    """Every leaf of the provenance stands in some table."""
    tables = provenance.tables(pages.run_page())
    assert [table.title for table in tables] == [
        "What was indexed", "How", "Model", "Corpus", "Versions", "Times",
    ]  # fmt: skip
    values = {value for table in tables for _, value in table.rows}
    assert {"0", "cpu", "4a" * 32, "gelu", "1070", "2.13.0", "84.2"} <= values
    assert ("architecture.act fn", "gelu") in tables[2].rows


def test_one_scale_for_all_kinds() -> None:
    """The largest magnitude of any example, of either sign, ends the legend on both sides."""
    page = pages.neuron_page()
    low = page.examples.bottom[0].model_copy(update={"trough": -9.25})
    examples = page.examples.model_copy(update={"bottom": [low]})
    page = page.model_copy(update={"examples": examples})
    assert present.scale_of(page) == 9.25
    legend = present.neuron(page).legend
    assert legend is not None
    assert (legend.low, legend.high) == ("−9.25", "9.25")
    assert [swatch.css for swatch in legend.swatches] == [
        *(f"n{i}" for i in range(10, 0, -1)),
        "",
        *(f"p{i}" for i in range(1, 11)),
    ]


def test_lines_are_aligned_on_peak_or_trough() -> None:
    """The right part begins with the mark; its number is the peak's, or for bottom the trough's."""
    page = pages.neuron_page()
    view = present.neuron(page)
    assert [section.id for section in view.sections] == ["top", "bottom", "random", "bands"]
    assert [section.size for section in view.sections] == [20, 10, 15, 9]
    for section in view.sections:
        for group in section.groups:
            assert all(str(line.right).startswith("<mark ") for line in group.lines)
            assert all(str(line.context).count("<mark ") == 1 for line in group.lines)
    assert view.sections[0].groups[0].lines[0].value == numbers.exact(page.examples.top[0].peak)
    bottom = view.sections[1].groups[0].lines[0]
    assert bottom.value == numbers.exact(page.examples.bottom[0].trough)


def test_bands_go_down_from_the_highest() -> None:
    """Each says its bounds and the share that fell in it, beside the nominal one."""
    bands = present.neuron(pages.neuron_page()).sections[3].groups
    assert [(band.title, band.note) for band in bands] == [
        ("Peak from 4.84 up", "0.98% of contexts (nominally 1.0%)"),
        ("Peak from 3.33 to 4.84", "8.4% of contexts (nominally 9.0%)"),
        ("Peak from 1.61 to 3.33", "41.0% of contexts (nominally 40.0%)"),
        ("Peak below 1.61", "49.6% of contexts (nominally 50.0%)"),
    ]


def test_a_peak_outside_the_window_leaves_a_line_without_a_mark() -> None:
    """A stored window that does not hold the trough is still shown, from its start."""
    page = pages.neuron_page()
    odd = page.examples.top[0].model_copy(update={"peak_position": 4000})
    examples = Examples(top=[odd], bottom=[], random=[], bands=[])
    view = present.neuron(page.model_copy(update={"examples": examples}))
    line = view.sections[0].groups[0].lines[0]
    assert "<mark" not in line.right + line.context
    assert line.left == ""


VOID = {"meta", "link", "br", "img", "input", "hr"}
ELEMENTS = set(
    "a abbr b body caption code details div dl dt dd figure footer h1 h2 h3 head header html i li "
    "link main mark meta nav ol p path pre rect script section small span summary svg table tbody "
    "td text th thead time title tr ul desc".split()
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


def render(template: str, page: BaseModel, **context: Any) -> str:
    """A page as its route renders it."""
    shared: dict[str, Any] = {"json_url": "/api/v1/x", "canonical": "/x"}
    if template == "neuron.html":
        shared["view"] = present.neuron(page)  # type: ignore[arg-type]
    if template == "run.html":
        shared["view"] = provenance.tables(page)  # type: ignore[arg-type]
    return site.templates().get_template(template).render(page=page, **shared, **context)


def outline(html: str) -> Outline:
    """The page read through, well nested to the end."""
    parsed = Outline()
    parsed.feed(html)
    parsed.close()
    assert parsed.open == []
    return parsed


PAGES: dict[str, tuple[str, BaseModel, dict[str, Any]]] = {
    "home": ("home.html", pages.model_list(), {"cursor": None, "limit": None}),
    "nothing indexed": (
        "home.html",
        ModelList(items=[], next=None),
        {"cursor": None, "limit": None},
    ),
    "last models": ("home.html", ModelList(items=[], next=None), {"cursor": "x", "limit": None}),
    "model": ("model.html", pages.model_page(), {"run_query": None}),
    "model of a run": ("model.html", pages.model_page(30), {"run_query": 3}),
    "layer": ("layer.html", pages.layer_page(), {"run_query": None, "cursor": None, "limit": None}),
    "layer's end": (
        "layer.html",
        pages.layer_page(0),
        {"run_query": 3, "cursor": "x", "limit": None},
    ),
    "neuron": ("neuron.html", pages.neuron_page(), {"run_query": None}),
    "smooth neuron": ("neuron.html", pages.neuron_page(pages.smooth), {"run_query": None}),
    "negative neuron": ("neuron.html", pages.negative_page(), {"run_query": 3}),
    "empty neuron": ("neuron.html", pages.empty_page(), {"run_query": None}),
    "hostile neuron": ("neuron.html", pages.hostile_page(), {"run_query": None}),
    "run": ("run.html", pages.run_page(), {}),
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


def test_hostile_tokens_stay_text() -> None:
    """They are all there to be read, and none became an element."""
    parsed = outline(render(*PAGES["hostile neuron"][:2], run_query=None))
    text = "".join(parsed.text)
    assert "<script>alert(1)</script>" in text
    assert "{{ page }}" in text
    assert "‹U+202E›" in text
    assert not set("\u202e\u200b\u2066\ufeff\x00") & set(text)


def test_first_and_last_neuron_have_no_dead_link() -> None:
    """No link, rather than one to nothing."""
    first = render("neuron.html", pages.empty_page(), run_query=None)
    last = render("neuron.html", pages.negative_page(), run_query=None)
    assert 'rel="prev"' not in first
    assert 'rel="next"' in first
    assert 'rel="next"' not in last
    assert 'rel="prev"' in last


@pytest.mark.parametrize("name", ["model of a run", "layer's end", "negative neuron"])
def test_links_carry_the_run(name: str) -> None:
    """Every link inside the model names the run, but for the one back to the default."""
    template, page, context = PAGES[name]
    links = outline(render(template, page, **context)).links
    inside = [link for link in links if re.match(r"/demo(/|\?|$)", link)]
    assert len([link for link in inside if "run=" not in link]) == 1
    assert any(link.endswith("run=3") for link in inside)


def test_layer_table_says_and_turns_its_order() -> None:
    """The sorted column is marked; its link turns the order, the others sort by themselves."""
    html = render("layer.html", pages.layer_page(), run_query=None, cursor=None, limit=None)
    assert re.findall(r'aria-sort="(\w+)"', html) == ["descending"]
    assert "/demo/1?sort=max&amp;order=asc" in html
    assert "/demo/1?sort=density&amp;order=desc" in html
    assert "/demo/1?sort=neuron&amp;order=asc" in html
    assert "cursor=WzMuMTQsIDQ1XQ" in html


def test_empty_home_says_what_to_do() -> None:
    """The command to run stands there."""
    assert "neurarium index demo" in render(*PAGES["nothing indexed"][:2], cursor=None, limit=None)
