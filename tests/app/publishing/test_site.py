"""A static site: the pages of a run that need no server, walked in a browser from files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from neurarium.local import local_store
from tests.browser.test_browser import follow
from tests.helpers.html_reader import elements

QUERY = "max>1 layer:1"


@pytest.fixture(scope="module")
def site(demo_store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of some of the demo's neurons, in a folder below another."""
    folder = tmp_path_factory.mktemp("site") / "below" / "demo"
    folder.parent.mkdir()
    words = ["export", "demo", "--format", "site", "--out", str(folder), "--query", QUERY]
    result = CliRunner().invoke(app, [*words, "--database", demo_store])
    assert result.exit_code == 0, result.output
    return folder


def pages(site: Path) -> list[Path]:
    """All pages of a site."""
    return sorted(site.rglob("*.html"))


def test_every_link_leads_to_a_file(site: Path) -> None:
    """Links, styles and scripts are relative and lead to files of the site."""
    assert len(pages(site)) > 100
    for page in pages(site):
        text = page.read_text()
        for target in re.findall(r'\b(?:href|src)="([^"]*)"', text):
            path, _ = urldefrag(target)
            assert not re.match(r"[a-z]+:|/", path), (page, target)
            assert not path or (page.parent / path).is_file(), (page, target)


def test_pages_run_nothing_but_the_search(site: Path) -> None:
    """No page has a form or a script of the server's; tokens that look like markup are text."""
    for page in pages(site):
        text = page.read_text()
        scripts = re.findall(r"<script\b[^>]*>", text)
        assert (page == site / "index.html") == bool(scripts), page
        assert "<form" not in text or page == site / "index.html"
        elements(text)


def test_it_is_small(site: Path) -> None:
    """1,000 neurons fit in 60 MB."""
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    neurons = len(pages(site)) - 2
    assert size / neurons < 60_000


def test_the_index_has_every_token_that_it_says(site: Path, demo_store: str) -> None:
    """Of each neuron all tokens that its top examples peak on, and all that it lists as promoted;
    no page speaks of JSON, which a site has not."""
    text = (site / "static" / "neurons.js").read_text()
    index = json.loads(text.removeprefix("globalThis.NEURARIUM = ").removesuffix(";\n"))
    model = local_store(demo_store).model("demo")
    for values in index["rows"][::40]:
        row = dict(zip(index["columns"], values, strict=True))
        page = model.neuron(row["layer"], row["neuron"]).page
        tops = [one.token_ids[one.peak_position - one.start] for one in page.examples.top]
        assert sorted(row["peaks"]) == sorted(set(tops))
        assert [tops.count(token) for token in row["peaks"]] == sorted(
            map(tops.count, set(tops)), reverse=True
        )
        effects = page.weights.logit_effects.top
        assert row["promotes"] == [token.token_id for token in effects]
        assert {str(token) for token in (*row["peaks"], *row["promotes"])} <= set(index["tokens"])
    assert not any("in the JSON" in page.read_text() for page in pages(site))


def test_it_says_what_it_cannot_do(site: Path) -> None:
    """The first page says what a server could do, and every page leads there."""
    assert "What this site cannot do" in (site / "index.html").read_text()
    for page in pages(site):
        assert "index.html#limits" in page.read_text()


@pytest.fixture(params=[True, False], ids=["scripts", "no scripts"])
def tab(request: pytest.FixtureRequest, browser: Any) -> Iterator[Any]:
    """A tab, with and without JavaScript, in which nothing may fail or leave the site."""
    context = browser.new_context(java_script_enabled=request.param)
    page = context.new_page()
    wrong: list[str] = []
    page.on(
        "request",
        lambda asked: None if asked.url.startswith("file:") else wrong.append(asked.url),
    )
    page.on("requestfailed", lambda asked: wrong.append(f"failed: {asked.url}"))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text))
    page.scripts = request.param
    yield page
    context.close()
    assert wrong == []


def test_a_walk_from_file_to_file(site: Path, tab: Any) -> None:
    """First page → layer → neuron → its neighbour and back, from file://."""
    tab.goto((site / "index.html").as_uri())
    follow(tab.locator("#layers ~ ul a"))
    assert tab.url == (site / "1" / "index.html").as_uri()
    follow(tab.locator("tbody tr:first-child a"))
    title = tab.text_content("h1")
    assert "layer 1" in title
    assert tab.locator(".kind#top, [aria-labelledby=top] .line").count() > 3
    tab.click("text=demo >> nth=0")
    assert tab.url == (site / "index.html").as_uri()


def test_the_search(site: Path, tab: Any) -> None:
    """By token and statistics in the browser; without scripts a sentence says so."""
    tab.goto((site / "index.html").as_uri())
    if not tab.scripts:
        assert tab.is_visible("text=The search needs JavaScript")
        assert not tab.is_visible(".static-search")
        return
    tab.fill("[name=q]", "max>2 density<30%")
    tab.click(".static-search button")
    said = tab.text_content(".static-said")
    assert re.match(r"[1-9]\d* neurons", said)
    tab.fill("[name=q]", "loud>3")
    tab.click(".static-search button")
    assert "“loud>3” cannot be read" in tab.text_content(".static-said")
    tab.fill("[name=q]", "")
    tab.goto((site / "1" / "index.html").as_uri())
    follow(tab.locator("tbody tr:first-child a"))
    follow(tab.locator(".summary a[href*='#token=']").first)
    follow(tab.locator(".static-found a").first)  # which waits until the index is read
    assert "layer 1" in tab.text_content("h1")
