"""A static site: the pages of a run that need no server, walked in a browser from files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.publishing.compact import compact
from indexer.store import notes
from indexer.store.database import open_store
from neurarium.local import local_store
from tests.browser.test_browser import follow
from tests.conftest import serving
from tests.helpers.html_reader import elements, read
from tests.helpers.store_copies import copy_store

CHOSEN = ",".join(f"1/{neuron}" for neuron in range(0, 600, 4))
NOTED = "</script> opens\nblocks & <b>files</b>"


@pytest.fixture(scope="module")
def store(demo_store: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo's store with two notes on a neuron."""
    path = tmp_path_factory.mktemp("noted") / "demo.db"
    copy_store(demo_store, path)
    engine = open_store(f"sqlite:///{path}", create=False)
    notes.prepare(engine)
    for day, text in enumerate(("older", NOTED), 1):
        time = datetime(2026, 1, day, tzinfo=UTC)
        notes.add(engine, notes.Note("demo", 1, 8, time, "Ada", text))
    engine.dispose()
    return f"sqlite:///{path}"


def publish(store: str, folder: Path, *more: str) -> Path:
    """A site of a run."""
    folder.parent.mkdir()
    words = ["export", "demo", "--format", "site", "--out", str(folder), *more]
    result = CliRunner().invoke(app, [*words, "--database", store])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def site(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of some of the demo's neurons, in a folder below another."""
    return publish(store, tmp_path_factory.mktemp("site") / "below" / "demo", "--list", CHOSEN)


@pytest.fixture(scope="module")
def heads_site(heads_store: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of attention heads."""
    return publish(heads_store[0], tmp_path_factory.mktemp("heads") / "below" / "heads")


def pages(site: Path) -> list[Path]:
    """All pages of a site."""
    return sorted(site.rglob("*.html"))


def test_every_link_leads_to_a_file(site: Path, heads_site: Path) -> None:
    """Links, styles and scripts are relative and lead to files of the site."""
    assert len(pages(site)) > 100
    for page in pages(site) + pages(heads_site):
        text = page.read_text()
        for target in re.findall(r"""\b(?:href|src)=(?:"([^"]*)"|([^\s>]+))""", text):
            target = target[0] or target[1]
            path, _ = urldefrag(target)
            assert not re.match(r"[a-z]+:|/", path), (page, target)
            assert not path or (page.parent / path).is_file(), (page, target)


def test_pages_run_nothing_but_the_search(site: Path, heads_site: Path) -> None:
    """No page has a form or a script of the server's; tokens that look like markup are text."""
    first = {site / "index.html", heads_site / "index.html"}
    for page in pages(site) + pages(heads_site):
        text = page.read_text()
        scripts = re.findall(r"<script\b[^>]*>", text)
        assert (page in first) == bool(scripts), page
        assert "<form" not in text or page in first
        assert not re.search(r"JSON</a>|href=\"?(?:None|/)", text), page
        if page.stem in ("index", "0", "4"):
            elements(text)


def test_pages_are_the_server_s(
    site: Path, heads_site: Path, store: str, heads_store: tuple[str, Path]
) -> None:
    """The same parts of a unit's page, of a layer's and of a model's: headings, charts, logos, what
    its weights say, notes; and a layer's whole table of the site's neurons."""

    def parts(page: Any) -> list[str]:
        heads = [part.text for name in ("h1", "h2", "caption") for part in page.all(name)]
        return [re.sub(r" \d+ (?:of \d|more tokens? ).*|\s+$", "", head) for head in heads]

    for at, folder, addresses in (
        (store, site, ("/demo/1/8", "/demo/1/40", "/demo/1")),
        (heads_store[0], heads_site, ("/demo/heads/1/2", "/demo/heads")),
    ):
        with serving(at, notes=True, notes_token="a-token-of-readers-1") as client:
            for address in addresses:
                _, _, *place = address.replace("/heads", "").split("/")
                unit = len(place) == 2
                path = folder / f"{'/'.join(place)}.html" if unit else folder / "/".join(place)
                static = elements((path if unit else path / "index.html").read_text())
                served = read(client, address)
                wanted = [part for part in parts(served) if not part.startswith("Notes")]
                found = [part for part in parts(static) if not part.startswith("Notes")]
                extra = ["Search", "What this site cannot do"]
                assert [part for part in found if part not in extra] == wanted, address
                assert len(static.all("svg", "chart")) == len(served.all("svg", "chart"))
    page = elements((site / "1" / "8.html").read_text())
    assert page.all("figure", "positions")
    assert len(page.by_id("sources").text)
    assert [said.text for said in page.all("p", "said")] == [NOTED, "older"]
    assert not elements((site / "1" / "12.html").read_text()).all("p", "said")
    rows = elements((site / "1" / "index.html").read_text()).all("tbody")[0].all("tr")
    model = local_store(store).model("demo")
    chosen = {int(one.split("/")[1]) for one in CHOSEN.split(",")}
    ranked = sorted(
        (row for row in model.layer(1) if row.neuron in chosen), key=lambda row: -row.max
    )
    assert [row.all("a", "name")[0].text for row in rows] == [str(row.neuron) for row in ranked]


def test_a_compact_page_is_the_same_page() -> None:
    """Attributes that are not for scripts, and texts, stay; bars of a chart keep their areas."""
    html = (
        '<p class="a b" title="x" data-key="r">1.0 &lt;p class="q"&gt;</p><br>'
        '<svg viewBox="0 0 4 4"><path d="M1.0 9.0V2.5h5.6V9.0zM7.2 9.0V3.0h5.6V9.0z'
        'M20.0 9.0V4.0h5.6V9.0zM1.0 8.0V7.0h2.0V8.0z"/></svg>'
    )
    made = compact(html)
    before, after = elements(html), elements(made)
    assert after.text == before.text == '1.0 <p class="q">'
    assert [one.tag for one in after.walk()] == [one.tag for one in before.walk()]
    assert after.all("p")[0].attributes == {"class": "a b", "title": "x"}

    def bars(d: str) -> list[tuple[float, ...]]:
        """Left, base, top and width of each bar."""
        x, base, found = 0.0, 0.0, []
        for start, gap, top, width in re.findall(
            r"(?:M([\d.]+ [\d.]+)|h([\d.]+))V([\d.]+)h([\d.]+)V[\d.]+z?", d
        ):
            if start:
                x, base = map(float, start.split())
            else:
                x += float(gap)
            found.append((round(x, 1), base, float(top), float(width)))
            x += float(width)
        return found

    drawn = [one.all("path")[0].attributes["d"] for one in (before, after)]
    assert len(bars(drawn[0])) == 4
    assert bars(drawn[0]) == bars(drawn[1])
    assert len(made) < len(html) - 30


def test_it_is_small(site: Path) -> None:
    """1,000 neurons fit in 60 MB."""
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    neurons = len(pages(site)) - 2
    assert size / neurons < 60_000


def test_the_index_has_every_token_that_it_says(site: Path, store: str) -> None:
    """Of each neuron all tokens that its top examples peak on, and all that it lists as promoted;
    no page speaks of JSON, which a site has not."""
    text = (site / "static" / "neurons.js").read_text()
    index = json.loads(text.removeprefix("globalThis.NEURARIUM = ").removesuffix(";\n"))
    model = local_store(store).model("demo")
    for values in index["rows"][::40]:
        row = dict(zip(index["columns"], values, strict=True))
        page = model.neuron(row["layer"], row["neuron"]).page
        tops = [one.token_ids[one.peak_position - one.start] for one in page.examples.top]
        assert sorted(row["peaks"]) == sorted(set(tops))
        assert [tops.count(token) for token in row["peaks"]] == sorted(
            map(tops.count, set(tops)), reverse=True
        )
        effects = page.weights.logit_effects.top
        assert row["lookup"] == pytest.approx(page.stats.lookup, rel=1e-4)
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
    # Leaving a page ends what it still waits for.
    page.on(
        "requestfailed",
        lambda asked: "ABORTED" in asked.failure or wrong.append(f"{asked.failure}: {asked.url}"),
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text))
    page.scripts = request.param
    yield page
    context.close()
    assert wrong == []


def test_a_walk_from_file_to_file(site: Path, heads_site: Path, tab: Any) -> None:
    """First page → layer → neuron → its neighbour and back, from file://."""
    tab.goto((site / "index.html").as_uri())
    follow(tab.locator("table.layers tbody a").first)
    assert tab.url == (site / "1" / "index.html").as_uri()
    follow(tab.locator("tbody tr:first-child a"))
    title = tab.text_content("h1")
    assert "layer 1" in title
    assert tab.locator(".kind#top, [aria-labelledby=top] .line").count() > 3
    tab.click("text=demo >> nth=0")
    assert tab.url == (site / "index.html").as_uri()
    tab.wait_for_load_state()
    tab.goto((heads_site / "index.html").as_uri())
    if tab.scripts:
        tab.fill("[name=q]", "induction>-1 sort:-copying")
        tab.click(".static-search button")
        assert tab.text_content(".static-said") == "10 heads."
    follow(tab.locator("table.list tbody tr:first-child a").first)
    assert "head" in tab.text_content("h1")
    assert tab.locator(".pair").count() > 3


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
    tab.fill("[name=q]", "lookup>0 sort:-lookup")
    tab.click(".static-search button")
    column = ".static-found tbody td:nth-child(6)"
    scores = [float(text) for text in tab.locator(column).all_text_contents()]
    assert scores == sorted(scores, reverse=True)
    tab.click(".static-found thead button:has-text('lookup')")
    assert [float(text) for text in tab.locator(column).all_text_contents()] == sorted(scores)
    assert tab.locator(".static-found [aria-sort=ascending]").count() == 1
    tab.fill("[name=q]", "loud>3")
    tab.click(".static-search button")
    assert "“loud>3” cannot be read" in tab.text_content(".static-said")
    tab.fill("[name=q]", "")
    tab.goto((site / "1" / "index.html").as_uri())
    follow(tab.locator("tbody tr:first-child a"))
    follow(tab.locator(".summary a[href*='#t']").first)
    follow(tab.locator(".static-found a").first)  # which waits until the index is read
    assert "layer 1" in tab.text_content("h1")
