"""Lists and comparisons in a real Chromium: kept while looking about, shared by their address."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.test_browser import PHONE, WIDE, visiting

SIZES = pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])


@SIZES
def test_a_list_is_kept_while_looking_about(
    browser: Any, live_server: str, size: dict[str, int]
) -> None:
    """Neurons are added from their pages, each once; the list is one address, which another visitor
    opens; what is taken out is gone from it."""
    with visiting(browser, live_server, viewport=size) as page:
        for count, path in enumerate(("/demo/1/10", "/demo/1/349", "/demo/0/3"), 1):
            page.goto(path)
            link = page.locator(".keep .add")
            words = "Add to a list" if count == 1 else f"Add to list ({count - 1})"
            assert link.inner_text() == words
            link.click()
            assert page.url.endswith(path), "it stays where it was"
            assert link.inner_text() == f"In the list ({count})"
        page.reload()
        assert page.locator(".keep .add").inner_text() == "In the list (3)"
        page.locator(".keep .add").click()
        page.wait_for_url(lambda url: "/list?n=" in url)
        assert page.locator(".neuron-list tbody tr").count() == 3
        address = page.url
        names = page.locator(".neuron-list .name").all_inner_texts()
        assert [name.split()[-1] for name in names] == ["1/10", "1/349", "0/3"]
        wide = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert wide
    with visiting(browser, live_server, viewport=size) as other:
        other.goto(address.removeprefix(live_server))
        assert other.locator(".neuron-list .name").all_inner_texts() == names
        other.locator(".neuron-list tbody tr").nth(1).get_by_role("link", name="Remove").click()
        other.wait_for_url(lambda url: url != address)
        left = other.locator(".neuron-list .name").all_inner_texts()
        assert left == [names[0], names[2]]
        other.goto("/demo/1/349")
        assert other.locator(".keep .add").inner_text() == "Add to list (2)"


def test_ticked_neurons_go_to_the_list_that_was_opened_last(browser: Any, live_server: str) -> None:
    """From a layer's table, in its order, after those that are there; light or dark as chosen."""
    with visiting(browser, live_server, viewport=WIDE, color_scheme="light") as page:
        page.goto("/list?n=demo/0/3&title=mine")
        page.locator("#theme").click()
        page.goto("/demo/1?sort=neuron")
        theme = page.locator("html")
        assert theme.get_attribute("data-theme") == "dark"
        assert page.locator("#theme").get_attribute("aria-label") == "Switch to light colours"
        for neuron in ("1/1", "1/4"):
            page.get_by_label(f"Tick demo/{neuron}", exact=True).check()
        page.get_by_role("button", name="Add ticked to a list").click()
        page.wait_for_url(lambda url: "/list?n=" in url)
        assert page.locator("h1").inner_text() == "mine"
        names = page.locator(".neuron-list .name").all_inner_texts()
        assert [name.split()[-1] for name in names] == ["0/3", "1/1", "1/4"]
        page.locator("#theme").click()
        page.reload()
        assert theme.get_attribute("data-theme") is None


@SIZES
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_two_neurons_are_put_beside_each_other(
    browser: Any, live_server: str, size: dict[str, int], scripts: bool
) -> None:
    """From a neuron's page, by typing the other's address; nothing is wider than the window."""
    with visiting(browser, live_server, viewport=size, java_script_enabled=scripts) as page:
        page.goto("/demo/1/10")
        page.locator(".keep").get_by_role("link", name="Compare").click()
        page.get_by_label("Neuron B").fill("1/349")
        page.get_by_role("button", name="Compare").click()
        page.wait_for_url(lambda url: "b=1" in url)
        assert page.locator("h1").inner_text() == "demo 1/10 and demo 1/349"
        assert (
            "their peaks correlate at"
            in page.locator("section", has=page.locator("#together")).inner_text()
        )
        assert page.locator(".scatter").bounding_box()["width"] <= size["width"]
        if scripts:
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
