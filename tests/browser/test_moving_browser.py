"""Moving about in a real Chromium: every key, the go-to box, the help, a citation, paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from tests.browser.test_browser import PHONE, SCREENSHOTS, WIDE, visiting

SIZES = pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
FOCUSED = "document.activeElement.id || document.activeElement.tagName.toLowerCase()"


@pytest.fixture
def pages(browser: Any, live_server: str, size: dict[str, int]) -> Iterator[Any]:
    """A visitor's page, at a desk or on a phone."""
    with visiting(browser, live_server, viewport=size) as page:
        yield page


def press(page: Any, key: str, path: str) -> None:
    """Press a key and wait for the page it leads to."""
    page.keyboard.press(key)
    page.wait_for_url(lambda url: url.endswith(path))


def wait_until(page: Any, condition: str) -> None:
    """Ask until it is so. Playwright's own waiting asks in the page, whose policy forbids eval from
    the second time on."""
    end = monotonic() + 10
    while not page.evaluate(condition):
        assert monotonic() < end, condition
        page.wait_for_timeout(20)


@SIZES
def test_arrows_walk_over_neurons_and_layers(pages: Any) -> None:
    """← → the neuron, ↑ ↓ the layer; at the ends nothing happens, and the page scrolls again."""
    pages.goto("/demo/0/5")
    press(pages, "ArrowRight", "/demo/0/6")
    press(pages, "ArrowDown", "/demo/1/6")
    assert pages.evaluate("scrollY") == 0
    pages.keyboard.press("ArrowDown")
    wait_until(pages, "scrollY > 0")
    assert pages.url.endswith("/demo/1/6"), "there is no layer below"
    press(pages, "ArrowLeft", "/demo/1/5")
    press(pages, "ArrowUp", "/demo/0/5")
    pages.keyboard.press("ArrowUp")
    pages.keyboard.press("PageDown")
    wait_until(pages, "scrollY > 0")
    assert pages.url.endswith("/demo/0/5")


@SIZES
def test_arrows_walk_over_layers_on_a_layer_s_page(pages: Any) -> None:
    """Both pairs of arrows lead to the layer before and after."""
    pages.goto("/demo/0")
    press(pages, "ArrowRight", "/demo/1")
    press(pages, "ArrowLeft", "/demo/0")
    press(pages, "ArrowDown", "/demo/1")
    press(pages, "ArrowUp", "/demo/0")
    keys = pages.locator("a[rel=next]").get_attribute("aria-keyshortcuts")
    assert keys == "ArrowRight ArrowDown"


@SIZES
def test_r_leads_to_a_random_neuron(pages: Any) -> None:
    """From the first page, a model's, a layer's and a neuron's."""
    for start, reached in (("/", "demo/"), ("/demo", "demo/"), ("/demo/1", "demo/1/")):
        pages.goto(start)
        pages.keyboard.press("r")
        pages.wait_for_url(re.compile(rf"/{reached}.*\d+$"))


@SIZES
def test_keys_do_nothing_where_they_mean_something_else(pages: Any) -> None:
    """While typing, with a modifier, and inside what arrows move already, no page is turned."""
    pages.goto("/demo/1")
    here = pages.url
    pages.locator(".scroll, [role=region][tabindex]").first.focus()
    for key in ("ArrowLeft", "ArrowUp", "r"):
        pages.keyboard.press(key)
    pages.locator("main").focus()
    for key in ("Control+ArrowLeft", "Shift+ArrowLeft", "Shift+R", "Meta+ArrowUp"):
        pages.keyboard.press(key)
    pages.keyboard.press("/")
    pages.keyboard.type("r?/")
    pages.keyboard.press("ArrowLeft")
    pages.keyboard.press("ArrowUp")
    assert pages.locator("#to").input_value() == "r?/"
    assert pages.locator("dialog").count() == 0
    pages.wait_for_timeout(100)
    assert pages.url == here


def test_what_is_typed_after_the_slash_at_once_stays(browser: Any, live_server: str) -> None:
    """Also where the browser says only later that the box is open."""
    with visiting(browser, live_server, viewport=PHONE) as page:
        page.goto("/demo/1/10")
        page.keyboard.press("/")
        page.keyboard.type("1")
        page.evaluate(
            "document.getElementById('goto').dispatchEvent("
            "new ToggleEvent('toggle', { oldState: 'closed', newState: 'open' }))"
        )
        page.keyboard.type("/7")
        assert page.locator("#to").input_value() == "1/7"


@SIZES
def test_the_slash_opens_the_box(pages: Any, size: dict[str, int]) -> None:
    """/ leads to the field, Enter to the neuron; Escape closes and gives the focus back."""
    pages.goto("/demo/1/10")
    field, box = pages.locator("#to"), pages.locator("#goto")
    assert field.is_visible() == (size == WIDE)
    pages.locator("a[rel=next]").focus()
    before = pages.evaluate("document.activeElement.href")
    pages.keyboard.press("/")
    assert field.is_visible()
    wait_until(pages, f"({FOCUSED}) === 'to'")
    assert field.input_value() == "", "the / itself is not typed"
    pages.screenshot(path=SCREENSHOTS / f"goto-{size['width']}.png")
    pages.keyboard.press("Escape")
    assert field.is_visible() == (size == WIDE)
    assert pages.evaluate("document.activeElement.href") == before
    press(pages, "ArrowRight", "/demo/1/11")
    pages.keyboard.press("/")
    wait_until(pages, f"({FOCUSED}) === 'to'")
    bounds = box.bounding_box()
    assert bounds["x"] >= 0
    assert bounds["x"] + bounds["width"] <= size["width"]
    pages.keyboard.type("blocks.0.mlp.hook_post 7")
    press(pages, "Enter", "/demo/0/7")


@SIZES
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_the_box_works_without_scripts(
    browser: Any, live_server: str, size: dict[str, int], scripts: bool
) -> None:
    """On a desk the field is in the header, on a phone behind a button; it keeps to the model."""
    options = {"viewport": size, "java_script_enabled": scripts}
    with visiting(browser, live_server, **options) as page:
        page.goto("/demo/1")
        opener = page.get_by_role("button", name="Go to…")
        assert opener.is_visible() == (size == PHONE)
        if size == PHONE:
            opener.click()
        field = page.get_by_label("Go to", exact=True)
        field.fill("l1 n12")
        field.press("Enter")
        page.wait_for_url("**/demo/1/12")


@SIZES
def test_the_question_mark_opens_the_help(pages: Any, size: dict[str, int]) -> None:
    """? opens the page of help in a dialog, Escape closes it, the focus is where it was."""
    pages.goto("/demo/1/10")
    pages.locator("a[rel=next]").focus()
    for time in ("first", "again"):
        pages.keyboard.press("?")
        dialog = pages.get_by_role("dialog", name="Help")
        dialog.wait_for()
        assert pages.locator("dialog").count() == 1, time
        assert dialog.get_by_role("heading", name="Keys").is_visible()
        pages.keyboard.press("ArrowRight")
        pages.keyboard.press("r")
        if time == "first":
            pages.screenshot(path=SCREENSHOTS / f"help-{size['width']}.png")
        bounds = dialog.bounding_box()
        assert 0 <= bounds["x"] <= bounds["x"] + bounds["width"] <= size["width"]
        pages.keyboard.press("Escape")
        assert not dialog.is_visible()
        assert pages.url.endswith("/demo/1/10")
        assert pages.evaluate("document.activeElement.rel") == "next"
    pages.get_by_role("link", name="? Help").click()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


@SIZES
def test_the_help_is_a_page(browser: Any, live_server: str, size: dict[str, int]) -> None:
    """Without scripts, and where it is one already, the link leads to the page of help."""
    with visiting(browser, live_server, viewport=size, java_script_enabled=False) as page:
        page.goto("/demo/1/10")
        page.get_by_role("link", name="? Help").click()
        page.wait_for_url("**/help")
        assert page.get_by_role("heading", level=1).inner_text() == "Help"
    with visiting(browser, live_server, viewport=size) as page:
        page.goto("/help")
        page.keyboard.press("?")
        page.wait_for_timeout(200)
        assert page.locator("dialog").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


@SIZES
def test_a_citation_is_copied(browser: Any, live_server: str, size: dict[str, int]) -> None:
    """One click copies one line that names model, place, run and the full address."""
    options = {"viewport": size, "permissions": ["clipboard-read", "clipboard-write"]}
    with visiting(browser, live_server, **options) as page:
        page.goto("/demo/1/10")
        page.locator(".cite summary").first.click()
        page.locator(".cite [role=status]").first.get_by_text("Copied").wait_for()
        line = page.evaluate("navigator.clipboard.readText()")
        assert line == page.locator(".cite code").first.inner_text()
        pattern = (
            r"demo blocks\.1\.mlp\.hook_post neuron 10, Neurarium run 1 "
            r"\(demo, [\d,]+ tokens, content [0-9a-f]{12}\), (http://127\.0\.0\.1:\d+/\S+)"
        )
        found = re.fullmatch(pattern, line)
        assert found, line
        page.goto(found[1])
        assert page.locator("h1").inner_text().endswith("neuron 10")


def test_a_citation_stands_there_without_scripts(browser: Any, live_server: str) -> None:
    """Without scripts it is opened and selected by hand; without a clipboard it is selected."""
    with visiting(browser, live_server, java_script_enabled=False) as page:
        page.goto("/demo/1/10")
        page.locator(".cite summary").first.click()
        line = page.locator(".cite code").first.inner_text()
        assert line.endswith(f", {live_server}/demo/1/10?run=1")
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.add_init_script(
            "Object.defineProperty(navigator, 'clipboard', {value: undefined});"
            "document.execCommand = () => false;"
        )
        page.goto("/demo/1/10")
        page.locator(".cite summary").first.click()
        page.get_by_text("Selected: copy it").wait_for()
        line = page.locator(".cite code").first.inner_text()
        assert page.evaluate("getSelection().toString()") == line


@pytest.mark.parametrize("path", ["/demo/1/10", "/demo/1", "/demo", "/runs/1", "/help"])
def test_pages_look_right_on_paper(browser: Any, live_server: str, path: str) -> None:
    """Dark on white whatever the screen, no tools, nothing cut at the edge, colours kept."""
    a4 = {"width": 718, "height": 1000}  # A4 less Chromium's margins, at 96 dots an inch
    with visiting(browser, live_server, viewport=a4, color_scheme="dark") as page:
        page.goto(path)
        page.emulate_media(media="print")
        name = path.strip("/").replace("/", "-")
        page.screenshot(path=SCREENSHOTS / f"print-{name}.png", full_page=True)
        for tools in (".tools", ".goto", ".steps", ".pager", ".choice", ".cite summary"):
            assert page.locator(f"{tools}:visible").count() == 0, tools
        assert page.locator("h1").is_visible()
        for line in page.locator(".cite code").all():
            assert line.is_visible(), "what is printed says where it is from"
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        kept = "getComputedStyle(document.querySelector('main')).printColorAdjust"
        assert page.evaluate(kept) == "exact"
        assert page.evaluate("document.documentElement.scrollWidth") <= a4["width"]
        cut = page.evaluate(
            "[...document.querySelectorAll('.scroll')]"
            ".filter((one) => one.scrollWidth > one.clientWidth + 1).length"
        )
        assert cut == 0
        link = page.locator("main a:visible").first
        if link.count():
            assert link.evaluate("(one) => getComputedStyle(one).textDecorationLine") == "none"
        assert page.pdf(print_background=True).startswith(b"%PDF")
