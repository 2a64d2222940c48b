"""axe-core finds nothing on embedded pages, nor around the box that reads a visitor's text.

Apart from the other pages because each takes long: side by side, they wait for one another less.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.test_accessibility import violations
from tests.browser.test_browser import in_both, visiting
from tests.conftest import serving_live


@pytest.fixture(scope="module")
def open_server(demo_store: str) -> Iterator[str]:
    """One that reads visitors' texts, and whose pages may be embedded."""
    with serving_live(demo_store, live=True, embed="https://notes.example") as address:
        yield address


@in_both
def test_axe_finds_nothing_where_pages_are_embedded_or_read_texts(
    browser: Any, open_server: str, size: dict[str, int], scheme: str
) -> None:
    """Bare pages; the box once it has an answer, and the page it leads to without scripts; the
    numbers and words that a page opens to; all neurons on a text, and on two."""
    found: list[str] = []
    with visiting(browser, open_server, viewport=size, color_scheme=scheme) as page:
        for path in ("/demo/1/10", "/demo/1", "/demo"):
            page.goto(f"{path}?embed=1")
            assert page.locator("header.site").count() == 0
            found += violations(page)
        page.goto("/demo/1/349")
        page.locator(".defs summary").click()
        page.get_by_label("Text for the neuron to read").fill("def f(x):\n    return x")
        page.keyboard.press("Control+Enter")
        page.locator("#live-result mark").wait_for(timeout=120_000)  # its model is loaded first
        found += violations(page)
        # Sent as where no script takes it, it leads to a page.
        page.evaluate("document.querySelector('#live form').submit()")
        page.wait_for_url("**/try")
        assert page.locator("#live-result mark").count() == 1
        found += violations(page)
        for path in ("/demo/search", "/demo/behaviour"):
            page.goto(path)
            found += violations(page)
        page.get_by_label("Text", exact=True).fill("def f(x):\n    return x")
        page.get_by_label("Compare with").fill("the sea")
        page.get_by_role("button", name="Find").click()
        page.locator("#result").wait_for()
        found += violations(page)
        page.goto("/demo/ablation?n=1/349,0/12#text=def+f(x)%3A")
        page.locator("#result").wait_for()
        page.wait_for_load_state()
        found += violations(page)
        page.locator(".token-boxes label").nth(1).click()
        page.get_by_role("button", name="Run again").click()
        page.locator("#result :checked").wait_for()
        assert page.locator(".is-ablated").count() == 1
        page.get_by_role("button", name="Copy link").click()
        link = page.url
        page.goto("/demo")
        page.goto(link)
        page.locator("#result :checked").wait_for()
        assert page.locator(".is-ablated").count() == 1
    assert found == []
