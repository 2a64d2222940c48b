"""How a neuron's page lies in its window: aligned, without shifts, jumps that arrive, on paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from indexer.store.database import open_store
from indexer.store.writing.run import write_run
from tests.browser.test_browser import PHONE, SCREENSHOTS, WIDE, in_both, visiting
from tests.browser.test_neuron_page_browser import NEURON, TOP
from tests.conftest import serving_live
from tests.helpers.fixture_store import TOY_NEURONS, RunOf
from tests.helpers.note_servers import TOKEN, keeping, write
from tests.helpers.store_copies import copy_store

OTHER = "/demo/1/562"


@pytest.fixture(scope="module")
def full_server(demo_store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with all that a page can show above its examples: it takes custom text, run 1 is not
    the model's default run, and `NEURON` and `OTHER` have notes."""
    url = copy_store(demo_store, tmp_path_factory.mktemp("full") / "store.db")
    newer = RunOf("demo", TOY_NEURONS)
    engine = open_store(url, create=False)
    record = replace(newer.record(), created_at=datetime.now(UTC))
    write_run(engine, record, newer.blocks(), newer.context_records())
    engine.dispose()
    with keeping(url) as client:
        for place in (NEURON, OTHER):
            _, model, layer, neuron = place.split("/")
            path = f"/api/v1/models/{model}/layers/{layer}/neurons/{neuron}/notes"
            write(client, "Syllables inside foreign names, most often the second one.", path=path)
    options = {"notes": True, "notes_token": SecretStr(TOKEN)}
    with serving_live(url, live=True, **options) as address:
        yield address


def test_lines_are_aligned(browser: Any, live_server: str) -> None:
    """All peaks of a list begin at the same place, at both widths."""
    for size in (WIDE, PHONE):
        with visiting(browser, live_server, viewport=size) as page:
            page.goto(NEURON)
            lefts = page.locator(f"{TOP} .line mark").evaluate_all(
                "(all) => all.map((one) => one.getBoundingClientRect().left)"
            )
            assert len(lefts) >= 15
            assert max(lefts) - min(lefts) < 1
            assert 0 < lefts[0] < size["width"] * 0.6


@pytest.mark.parametrize(("size", "least"), [(WIDE, 14), (PHONE, 8)], ids=["wide", "phone"])
@pytest.mark.parametrize("full", [False, True], ids=["plain", "full"])
@pytest.mark.parametrize("neuron", [NEURON, OTHER])
def test_the_first_screen_has_what_matters(
    browser: Any,
    live_server: str,
    full_server: str,
    size: dict[str, int],
    least: int,
    neuron: str,
    full: bool,
) -> None:
    """Statistics, the summary, the tokens by position and most of the top examples, also where the
    page has a form for custom text, the notice of a run that is not the default, and a note."""
    with visiting(browser, full_server if full else live_server, viewport=size) as page:
        page.goto(f"{neuron}?run=1" if full else neuron)
        for part in (".live", ".notice.of-run", ".newest"):
            assert page.locator(part).count() == full, part
        for place in (".stats", ".summary", ".logo", ".views", ".legend"):
            box = page.locator(place).first.bounding_box()
            assert box["y"] + box["height"] <= size["height"], place
        if size is WIDE:
            bar = page.locator(".bar-sticky").bounding_box()
            assert bar["height"] < 45, "sections, views and colours are in one row"
        line = page.locator(f"{TOP} summary").nth(least - 1).bounding_box()
        assert line["y"] + line["height"] <= size["height"]


def test_a_dead_neuron_fits_a_phone(browser: Any, live_server: str) -> None:
    """Its scale has the longest numbers there are: the colours make room for them."""
    with visiting(browser, live_server, viewport=PHONE) as page:
        page.goto("/demo/neurons?q=dead:yes")
        page.locator("tbody a.name").first.click()
        page.locator(".flag").wait_for()
        page.locator(".legend > span:not(.ramp)").evaluate_all(
            "all => all.forEach(one => { one.textContent = '−0.000113'; })"
        )
        legend = page.locator(".legend").bounding_box()
        last = page.locator(".legend > span").last.bounding_box()
        assert last["x"] + last["width"] <= legend["x"] + legend["width"] + 0.5
        assert page.locator(".ramp").bounding_box()["width"] >= 16
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@in_both
def test_every_view_fits_its_window(
    browser: Any, live_server: str, size: dict[str, int], scheme: str
) -> None:
    """No view scrolls sideways; a picture of each, whole, is kept."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with visiting(browser, live_server, viewport=size, color_scheme=scheme) as page:
        page.goto(NEURON)
        context = page.locator(".fetch").first.get_attribute("href")
        paths = {
            "aligned": NEURON,
            "windows": f"{NEURON}?view=window",
            "contexts": f"{NEURON}?view=context",
            "sources": f"{NEURON}/sources",
            "context": context,
        }
        for name, path in paths.items():
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], name
            if name != "contexts":  # what is out of sight is not laid out, nor in a picture
                for _ in range(2):
                    height = page.evaluate("document.documentElement.scrollHeight")
                    page.set_viewport_size(size | {"height": height})
            page.screenshot(path=SCREENSHOTS / f"neuron-{name}-{size['width']}-{scheme}.png")
            page.set_viewport_size(size)


def test_nothing_shifts_while_the_page_comes(browser: Any, live_server: str) -> None:
    """No element moves after it was painted."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.add_init_script(
            "window.shifts = []; new PerformanceObserver((list) => { for (const one of"
            " list.getEntries()) window.shifts.push(one.value, ...one.sources.map((source) =>"
            " `${source.node?.outerHTML ?? source.node?.data}`.slice(0, 200))); })"
            ".observe({ type: 'layout-shift', buffered: true })"
        )
        page.goto(NEURON, wait_until="networkidle")
        assert page.evaluate("window.shifts") == []


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_parts_out_of_sight_are_come_to(
    browser: Any, live_server: str, size: dict[str, int]
) -> None:
    """The bar's links lead to their headings, and the headings stay where they came to."""
    with visiting(browser, live_server, viewport=size) as page:
        page.goto(NEURON)
        for name in ("data", "bands", "weights", "top"):
            page.locator(f".bar-sticky nav a[href='#{name}']").click()
            page.wait_for_function(
                "(name) => { const box = document.getElementById(name).getBoundingClientRect();"
                " return box.top >= 0 && (box.top < 200 || scrollY + innerHeight >="
                " document.documentElement.scrollHeight - 1) && box.bottom <= innerHeight; }",
                arg=name,
            )


def test_print_shows_the_page_alone(browser: Any, live_server: str) -> None:
    """On paper there are no controls, the bar does not stick, and the colours stay."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto(NEURON)
        page.emulate_media(media="print")
        assert not page.locator(".views").is_visible()
        assert not page.locator(".steps").is_visible()
        assert page.locator(".legend").is_visible()
        bar = page.locator(".bar-sticky")
        assert bar.evaluate("(one) => getComputedStyle(one).position") == "static"
        mark = page.locator(f"{TOP} mark").first
        assert mark.evaluate("(one) => getComputedStyle(one).printColorAdjust") == "exact"


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_long_number_is_not_covered_by_its_line(
    browser: Any, live_server: str, size: dict[str, int]
) -> None:
    """A peak is printed exactly: one with more digits than there is room for stands over the
    beginning of the text."""
    with visiting(browser, live_server, viewport=size) as page:
        page.goto(NEURON)
        value = page.locator(f"{TOP} .value").first
        value.scroll_into_view_if_needed()
        shown = value.evaluate(
            """value => {
              value.textContent = "−0.000123456789";
              const box = value.getBoundingClientRect();
              const ends = [box.left + 2, box.right - 2];
              const there = ends.map(x => document.elementFromPoint(x, (box.top + box.bottom) / 2));
              const solid = getComputedStyle(value).backgroundColor;
              return there.every(one => one === value) && !/transparent|, 0\\)$/.test(solid);
            }"""
        )
        assert shown


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_nothing_passes_over_the_bar(browser: Any, live_server: str, size: dict[str, int]) -> None:
    """Examples scroll away beneath the bar that stays in view."""
    with visiting(browser, live_server, viewport=size) as page:
        page.goto(NEURON)
        page.locator("#bottom").evaluate("heading => heading.scrollIntoView()")
        over = page.locator(".bar-sticky").evaluate(
            """bar => {
              const box = bar.getBoundingClientRect();
              const found = [];
              for (let y = box.top + 1; y < box.bottom; y += 4)
                for (let x = box.left + 1; x < box.right; x += 8) {
                  const there = document.elementFromPoint(x, y);
                  if (there && !bar.contains(there)) found.push(there.className);
                }
              return found;
            }"""
        )
        assert over == []
