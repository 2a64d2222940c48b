"""A layer's picture in a real Chromium: hovered, clicked, tapped, by keys, without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from indexer.store.database import open_store
from tests.browser.test_browser import PHONE, SCREENSHOTS, WIDE, follow, in_both, visiting
from tests.conftest import serving_live
from tests.helpers.fixture_neurons import DEAD, SCRIPT
from tests.helpers.fixture_store import MODELS, TOY_NEURONS, RunOf, wide_layer, write_all

COUNT = 700


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server over the hand-written store and a layer of a usual size."""
    url = f"sqlite:///{tmp_path_factory.mktemp('picture') / 'store.db'}"
    engine = open_store(url, create=True)
    write_all(engine)
    RunOf("usual", ((*wide_layer(COUNT - 3, 5), *[DEAD] * 3), wide_layer(COUNT, 6))).write(engine)
    engine.dispose()
    with serving_live(url) as address:
        yield address


def path_of(page: Any) -> str:
    """The path of the page shown."""
    return str(urlsplit(page.url).path)


def cell(page: Any, neuron: int) -> Any:
    """A neuron's cell."""
    return page.locator(f'.grid a[href$="/{neuron}"]')


def test_hovering_names_a_cell_at_once(browser: Any, server: str) -> None:
    """Under the pointer a cell says its neuron, token and value; left, the page is as it was."""
    with visiting(browser, server, viewport=WIDE) as page:
        page.goto("/usual/0?picture=density")
        before = page.locator(".picture").inner_html()
        said = cell(page, 70).locator("title").text_content()
        number, token, value = said.split(" · ")
        cell(page, 70).hover()
        tip = page.get_by_role("status")
        words = tip.text_content()
        assert (number, f"neuron 70 {token} density {value}") == ("70", words)
        assert cell(page, 70).locator("title").count() == 0, "the browser does not say it again"
        page.mouse.move(0, 0)
        assert not tip.is_visible()
        assert page.locator(".picture").inner_html() == before


def test_hovering_finds_the_row(browser: Any, server: str) -> None:
    """The row of the table that is the neuron's own is marked while its cell is."""
    with visiting(browser, server, viewport=WIDE) as page:
        page.goto("/toy/0?picture=max&sort=neuron")
        cell(page, 2).hover()
        assert page.locator("tr.here").count() == 1
        assert page.locator("tr.here .name").inner_text() == "2"
        cell(page, 3).hover()
        assert page.locator("tr.here .name").inner_text() == "3"
        page.mouse.move(0, 0)
        assert page.locator("tr.here").count() == 0


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_click_opens_the_neuron(
    browser: Any, server: str, size: dict[str, int], scripts: bool
) -> None:
    """A cell is a link, with scripts and without; dead neurons too."""
    options = {"java_script_enabled": scripts, "viewport": size}
    with visiting(browser, server, **options) as page:
        dead = next(index for index, neuron in enumerate(TOY_NEURONS[0]) if neuron.dead)
        page.goto("/toy/0?run=1")
        page.goto("/toy/0?picture=max")
        cell(page, dead).click()
        page.wait_for_url(f"**/toy/0/{dead}")


def test_tab_stops_once_and_arrows_walk(browser: Any, server: str) -> None:
    """The picture is one stop; arrows move by a cell or a row and stay inside; Enter opens."""
    with visiting(browser, server, viewport=WIDE) as page:
        page.goto("/usual/0?picture=max")
        page.locator(".choice a").last.focus()
        page.keyboard.press("Tab")
        tip = page.get_by_role("status")

        def at() -> int:
            return int(tip.text_content().split()[1])

        assert at() == 0
        for key, neuron in [
            ("ArrowLeft", 0),
            ("ArrowUp", 0),
            ("ArrowRight", 1),
            ("ArrowDown", 33),
            ("ArrowDown", 65),
            ("ArrowLeft", 64),
            ("ArrowUp", 32),
            ("End", COUNT - 1),
            ("ArrowDown", COUNT - 1),
            ("ArrowRight", COUNT - 1),
            ("Home", 0),
            ("ArrowRight", 1),
        ]:
            page.keyboard.press(key)
            assert at() == neuron, key
            assert path_of(page) == "/usual/0"
        page.keyboard.press("Escape")
        assert not tip.is_visible()
        page.keyboard.press("ArrowRight")
        assert at() == 1, "the first key shows where one was"
        page.keyboard.press("Tab")
        assert "of neurons" in tip.text_content(), "the legend's first step says what it means"
        assert page.evaluate("!document.activeElement.closest('.grid')"), "no cell is a stop"
        page.keyboard.press("Shift+Tab")
        assert at() == 1
        page.keyboard.press("Enter")
        page.wait_for_url("**/usual/0/1")


def test_arrows_outside_the_picture_turn_pages(browser: Any, server: str) -> None:
    """The site's own keys are not taken away."""
    with visiting(browser, server, viewport=WIDE) as page:
        page.goto("/usual/0")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        page.wait_for_url("**/usual/1")


def test_a_finger_names_first_and_opens_then(browser: Any, server: str) -> None:
    """The first tap says what a cell is, the second on the same cell opens it."""
    with visiting(browser, server, viewport=PHONE, has_touch=True) as page:
        page.goto("/usual/0?picture=max")
        cell(page, 40).tap()
        tip = page.get_by_role("status")
        assert tip.text_content().startswith("neuron 40 ")
        cell(page, 41).tap()
        assert tip.text_content().startswith("neuron 41 ")
        assert path_of(page) == "/usual/0"
        cell(page, 41).tap()
        page.wait_for_url("**/usual/0/41")


def test_without_scripts_titles_name_the_cells(browser: Any, server: str) -> None:
    """All that hovering says stands in the titles; the choice of statistic is links."""
    with visiting(browser, server, viewport=WIDE, java_script_enabled=False) as page:
        page.goto("/toy/1?picture=max")
        titles = page.locator(".grid title").all_text_contents()
        assert [title.split(" · ")[0] for title in titles] == ["0", "1", "2", "3"]
        assert SCRIPT in titles[1]
        follow(page.get_by_role("link", name="effect kurtosis", exact=True))
        assert urlsplit(page.url).query == "picture=effect_kurtosis"
        assert page.locator(".choice [aria-current]").inner_text() == "effect kurtosis"
        follow(page.get_by_role("link", name="Kurtosis", exact=True))
        assert page.locator("th[aria-sort=descending]").inner_text().startswith("Kurtosis")
        assert page.locator(".choice [aria-current]").inner_text() == "effect kurtosis"


def test_a_hostile_token_is_text_in_the_tip(browser: Any, server: str) -> None:
    """A token that is a script is said, and does nothing."""
    with visiting(browser, server, viewport=PHONE) as page:
        page.on("dialog", lambda dialog: pytest.fail(f"a token opened {dialog.message}"))
        page.goto("/toy/1?picture=max")
        for neuron in range(4):
            cell(page, neuron).hover()
        cell(page, 1).hover()
        assert SCRIPT in page.get_by_role("status").text_content()


@in_both
def test_layers_fit_their_window(
    browser: Any, server: str, size: dict[str, int], scheme: str
) -> None:
    """Nothing scrolls sideways; dead cells look different from all living ones; pictures kept."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with visiting(browser, server, viewport=size, color_scheme=scheme) as page:
        for name in [*MODELS, "usual"]:
            for path in (f"/{name}", f"/{name}/0", f"/{name}/0?picture=max"):
                page.goto(path)
                assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], path
        page.screenshot(path=SCREENSHOTS / f"picture-{size['width']}-{scheme}.png")
        fills = page.evaluate(
            """() => Object.fromEntries(
                [...document.querySelectorAll(".grid a")].map((cell) => [
                    cell.getAttribute("class"),
                    getComputedStyle(cell.querySelector("path")).fill,
                ]),
            )"""
        )
        dead = fills.pop("d")
        assert dead == "none"
        assert len(set(fills.values())) == len(fills) >= 3
        page.goto("/usual")
        page.screenshot(path=SCREENSHOTS / f"layers-{size['width']}-{scheme}.png")
