"""The site in a real Chromium: a reader's way through it, with and without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import serving_live
from tests.helpers.fixture_store import SCRIPT

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
in_both = pytest.mark.parametrize(
    ("size", "scheme"), [(WIDE, "light"), (PHONE, "dark")], ids=["wide-light", "phone-dark"]
)
"""Each size and each scheme once: colours are the same at all sizes, places in all schemes."""
PAGES = {
    "home": "/",
    "model": "/demo",
    "layer": "/demo/1?sort=kurtosis",
    "neuron": "/demo/1/10",
    "run": "/runs/1",
    "search": "/demo/search",
    "search token": "/demo/search?token=%20def",
    "search text": "/demo/search?text=return",
    "context": "/demo/contexts/5",
    "compare": "/compare?a=demo/1/10&b=1/11",
    "compare one": "/compare?a=demo/1/10",
    "list": "/list?n=demo/1/10,1/11,0/3,9/9",
    "docs": "/docs",
    "missing": "/demo/9/9",
}
NEURON = re.compile(r"/demo/([01])/(\d+)$")


@contextmanager
def visiting(browser: Any, server: str, **options: Any) -> Iterator[Any]:
    """A page of a new visitor; in the end nothing may have gone wrong in it.

    Wrong is: an error on the console, a breach of the content policy, a request to another host.
    """
    wrong: list[str] = []
    host = urlsplit(server).netloc
    context = browser.new_context(base_url=server, **options)
    context.add_init_script(
        "addEventListener('securitypolicyviolation', (event) =>"
        " console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`))"
    )
    page = context.new_page()

    def on_console(message: Any) -> None:
        if message.type in ("error", "warning"):
            wrong.append(f"{message.type} on {page.url}: {message.text}")

    def on_request(request: Any) -> None:
        if not request.url.startswith("data:") and urlsplit(request.url).netloc != host:
            wrong.append(f"asked {request.url}")

    def on_response(response: Any) -> None:
        if response.status >= 500:
            wrong.append(f"{response.status} for {response.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", on_request)
    page.on("response", on_response)
    try:
        yield page
    finally:
        context.close()
    assert wrong == []


def follow(control: Any) -> None:
    """Click a link or a form's button, and wait until the page that it leads to is there whole.

    A click alone returns when the answer begins: what is counted then may be half a table.
    """
    with control.page.expect_navigation():
        control.click()


def place(page: Any) -> tuple[int, int]:
    """Layer and neuron of the page shown."""
    found = NEURON.search(page.url)
    assert found, page.url
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_reader_finds_the_way(
    browser: Any, live_server: str, scripts: bool, size: dict[str, int]
) -> None:
    """From the first page to a neuron, an example opened, next, previous, random."""
    options = {"java_script_enabled": scripts, "viewport": size, "color_scheme": "dark"}
    with visiting(browser, live_server, **options) as page:
        page.goto("/")
        follow(page.get_by_role("link", name="demo", exact=True))
        follow(page.get_by_role("link", name="Layer 1", exact=True))
        follow(page.get_by_role("link", name="Neuron", exact=True))
        follow(page.get_by_role("row").nth(6).get_by_role("link"))
        assert place(page) == (1, 5)
        assert page.get_by_role("heading", level=1).is_visible()

        example = page.locator("section[aria-labelledby=top] details").first
        opened = example.locator(".opened")
        assert not opened.is_visible()
        example.locator("summary").click()
        assert opened.is_visible()
        assert "context" in opened.inner_text()
        if scripts:
            opened.locator("mark").wait_for()

        steps = page.get_by_role("navigation", name="Neurons")
        follow(steps.locator("[rel=next]"))
        assert place(page) == (1, 6)
        follow(steps.locator("[rel=prev]"))
        assert place(page) == (1, 5)
        follow(steps.get_by_role("link", name="random"))
        place(page)


def test_the_keyboard_turns_pages(browser: Any, live_server: str) -> None:
    """← and → go to the neighbours, r to a random neuron; at the first neuron ← does nothing."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto("/demo/0/0")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowRight")
        page.wait_for_url("**/demo/0/1")
        page.keyboard.press("ArrowLeft")
        page.wait_for_url("**/demo/0/0")
        page.keyboard.press("r")
        page.wait_for_url(lambda url: not url.endswith("/demo/0/0"))
        place(page)
        page.goto("/demo/1")
        page.keyboard.press("ArrowLeft")
        page.wait_for_url("**/demo/0")


def test_the_keyboard_reads_tokens(browser: Any, live_server: str) -> None:
    """In an open context the arrow keys walk over tokens and say their values, on no new page."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto("/demo/1/10")
        example = page.locator("section[aria-labelledby=top] details").first
        example.locator("summary").focus()
        page.keyboard.press("Enter")
        example.locator(".whole").wait_for()
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        tip = page.get_by_role("status")
        assert "exactly" in tip.inner_text(), "it begins at the peak"
        page.keyboard.press("ArrowLeft")
        assert "exactly" not in tip.inner_text()
        assert "position" in tip.inner_text()
        page.keyboard.press("Escape")
        assert not tip.is_visible()
        assert place(page) == (1, 10)


def test_the_first_tap_says_a_token_s_value(browser: Any, live_server: str) -> None:
    """On a phone, right after a line was opened: the focus that leaves the line hides nothing."""
    with visiting(browser, live_server, viewport=PHONE, has_touch=True) as page:
        page.goto("/demo/1/10")
        example = page.locator("section[aria-labelledby=top] details").first
        example.locator("summary").tap()
        example.locator(".whole mark").first.tap()
        assert page.get_by_role("status").is_visible()


def test_hovering_says_a_token_s_value(browser: Any, live_server: str) -> None:
    """Under the pointer a token says its activation; leaving, nothing of it stays."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto("/demo/1/10")
        text = page.locator(".examples").inner_text()
        pages = []
        for _ in range(2):  # the first time, the line's tokens get their whole titles
            page.locator("section[aria-labelledby=top] mark").first.hover()
            tip = page.get_by_role("status")
            assert re.search(r"exactly, \d+% of max · position \d+ · id \d+", tip.inner_text())
            page.mouse.move(0, 0)
            assert not tip.is_visible()
            pages.append(page.locator(".examples").inner_html())
        assert pages[0] == pages[1]
        assert page.locator(".examples").inner_text() == text


def test_without_scripts_titles_say_the_values(browser: Any, live_server: str) -> None:
    """Without JavaScript the value of a token that has a colour is its title."""
    with visiting(browser, live_server, java_script_enabled=False) as page:
        page.goto("/demo/1/10")
        peak = page.locator("section[aria-labelledby=top] mark").first
        assert "exactly" in peak.get_attribute("title")
        for css in ("p1", "p5", "n1"):
            coloured = page.locator(f".line span.{css}").first
            assert re.fullmatch(r"−?[\d.]+, id \d+", coloured.get_attribute("title"))


@pytest.mark.parametrize(
    "path",
    [
        "/demo/1/10",
        "/demo/1/10?view=window",
        "/demo/1/10/sources",
        "/compare?a=demo/1/10&b=1/11",
        "/list?n=demo/1/10",
    ],
)
def test_without_scripts_a_link_gives_every_token_its_title(
    browser: Any, live_server: str, path: str
) -> None:
    """What the script adds: the same text, and of each token value, share, position and id."""
    every = """found => {
      const bare = [];
      const walker = document.createTreeWalker(found, NodeFilter.SHOW_TEXT);
      while (walker.nextNode()) {
        const said = walker.currentNode.parentElement.closest("[title]");
        if (!said || !found.contains(said)) bare.push(walker.currentNode.data);
      }
      return bare.join("").trim();
    }"""
    with visiting(browser, live_server, java_script_enabled=False) as page:
        page.goto(path)
        text = page.locator(".line, .text").all_inner_texts()
        assert page.locator(".line, .text").first.evaluate(every)
        follow(page.get_by_role("link", name="this page with full details").first)
        assert page.locator(".line, .text").all_inner_texts() == text
        for line in page.locator(".line, .text").all():
            assert line.evaluate(every) == ""
        said = page.locator(":is(.line, .text) :is(span.p1, span.z)[title]").first
        assert re.search(r", at \d+, id \d+$", said.get_attribute("title"))
        assert page.get_by_role("link", name="this page with full details").count() == 0
    with visiting(browser, live_server) as page:
        page.goto(path)
        assert page.get_by_role("link", name="this page with full details").count() == 0


def test_a_layer_is_sorted_by_its_headings(browser: Any, live_server: str) -> None:
    """A click on a column's heading sorts by it, a second one the other way round."""
    with visiting(browser, live_server, viewport=WIDE, java_script_enabled=False) as page:
        page.goto("/demo/0?sort=neuron")

        def maxima() -> list[float]:
            cells = page.locator("tbody tr td.num:nth-of-type(3)").all_inner_texts()
            return [float(cell.split()[0].replace("\N{MINUS SIGN}", "-")) for cell in cells]

        follow(page.get_by_role("link", name="Max", exact=True))
        largest = maxima()
        assert len(largest) == 100
        assert largest == sorted(largest, reverse=True)
        follow(page.locator("th[aria-sort=descending] a"))
        smallest = maxima()
        assert smallest == sorted(smallest)
        assert smallest[0] < largest[-1]
        follow(page.get_by_role("link", name="Next page"))
        assert maxima()[0] >= smallest[-1]


def test_the_documentation_works(browser: Any, live_server: str) -> None:
    """Swagger UI comes up from this server's own files; without scripts the routes are listed."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto("/docs")
        operation = page.locator("#swagger-ui .opblock").first
        operation.wait_for()
        routes = page.request.get("/openapi.json").json()["paths"].values()
        assert page.locator("#swagger-ui .opblock").count() == sum(map(len, routes))
        assert page.evaluate(
            """() => [...document.querySelectorAll("#swagger-ui .opblock svg")].every((icon) => {
                const [inner, outer] = [icon, icon.closest(".opblock")].map(
                    (element) => element.getBoundingClientRect());
                return inner.top >= outer.top && inner.bottom <= outer.bottom;
            })"""
        ), "our styles leave its icons alone"
        operation.locator(".opblock-summary-control").click()
        operation.get_by_role("button", name="Try it out").click()
        operation.get_by_role("button", name="Execute").click()
        operation.locator(".live-responses-table .response-col_status").first.wait_for()
        assert "200" in operation.locator(".live-responses-table").inner_text()
    with visiting(browser, live_server, java_script_enabled=False) as page:
        page.goto("/docs")
        assert "/api/v1/models/{model}" in page.get_by_role("table").inner_text()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_every_page_fits_its_window(browser: Any, live_server: str, size: dict[str, int]) -> None:
    """No page scrolls sideways, on a desk or a phone, light or dark; a picture of each is kept."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with visiting(browser, live_server, viewport=size) as page:
        for name, path in PAGES.items():
            if name == "missing":
                continue
            page.goto(path)
            if name == "docs":
                page.locator("#swagger-ui .opblock").first.wait_for()
            if name == "neuron":
                page.locator("section[aria-labelledby=top] summary").first.click()
                gutter = "getComputedStyle(document.documentElement).scrollbarGutter"
                assert page.evaluate(gutter) == "stable", "a scrollbar would move the page"
            for scheme in ("light", "dark"):  # styles alone know it: no page is loaded again
                page.emulate_media(color_scheme=scheme)
                width = page.evaluate("document.documentElement.scrollWidth")
                page.screenshot(path=SCREENSHOTS / f"{name}-{size['width']}-{scheme}.png")
                assert width <= size["width"], f"{name} is {width} px wide"
                background = page.evaluate(
                    "getComputedStyle(document.documentElement).backgroundColor"
                )
                red, green, blue = (float(part) for part in re.findall(r"[\d.]+", background)[:3])
                assert (red + green + blue > 600) == (scheme == "light"), background


def test_hostile_tokens_do_nothing(browser: Any, sqlite_filled: str) -> None:
    """Tokens that are scripts, attributes, controls and ten thousand letters are just shown."""
    with serving_live(sqlite_filled) as server, visiting(browser, server, viewport=PHONE) as page:
        page.on("dialog", lambda dialog: pytest.fail(f"a token opened {dialog.message}"))
        hostile = ("/compare?a=toy/1/1&b=0/0", "/list?n=toy/1/1,0/0,<b>&title=<b>")
        for path in ("/toy/1/1", "/toy/1", "/toy/0/0", "/runs/3", "/", *hostile):
            page.goto(path)
            for summary in page.locator(".examples summary").all():
                summary.click()
            for token in page.locator("mark").all():
                token.hover()
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
        page.goto("/toy/1/1")
        assert SCRIPT in page.locator("section[aria-labelledby=top]").inner_text()


def test_a_page_that_is_missing_looks_like_the_site(browser: Any, live_server: str) -> None:
    """The error page has the site's style and leads back."""
    context = browser.new_context(base_url=live_server, viewport=PHONE)
    page = context.new_page()
    response = page.goto(PAGES["missing"])
    assert response.status == 404
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    follow(page.get_by_role("link", name="All models"))
    assert urlsplit(page.url).path == "/"
    context.close()
