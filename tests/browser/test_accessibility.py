"""Pages for every reader: axe-core finds nothing, and the keyboard alone reaches everything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.test_browser import PAGES, WIDE, in_both, visiting
from tests.conftest import serving_live

DEMO = {
    # Swagger UI is not ours; a missing page is an error on the console, as it should be.
    **{name: path for name, path in PAGES.items() if name not in ("docs", "missing")},
    "help": "/help",
    "sources": "/demo/1/10/sources",
}
TOY = [
    *("/toy/0/0", "/toy/0/1", "/toy/0/3", "/toy/1/1", "/toy/1/3", "/toy/1", "/toy/0/0/contexts/7"),
    *("/toy/1/1?view=window", "/toy/1/1?view=context", "/toy/0/0/sources"),
    *("/compare?a=toy/1/1&b=0/0", "/list?n=toy/0/0,0/1,1/1,nobody/1/1,?"),
    *("/", "/toy", "/toy/differences?a=1&b=3", "/toy/0?picture=density"),
]
"""Dead, gated, hostile and sparse neurons; what little is known of some shows as empty places."""


@pytest.fixture(scope="module")
def toy_server(sqlite_filled: str) -> Iterator[str]:
    """The address of a real server over the hand-written store."""
    with serving_live(sqlite_filled) as address:
        yield address


REPEATED = (
    "tbody > tr:nth-child(n+6), ol > li:nth-child(n+4), ul > li:nth-child(n+9), "
    "svg g > :nth-child(n+6), svg > g:nth-of-type(n+6), "
    "summary .tok > span > span:nth-child(n+9)"
)
"""Rows, items, shapes and tokens after the first few, which the same line of a template makes."""


def violations(page: Any, part: str | None = None) -> list[str]:
    """What axe-core holds against the page as it stands, or a part of it, a line each. What is
    `REPEATED` is removed from the page first: axe takes minutes over thousands of elements."""
    page.evaluate(f"document.querySelectorAll({REPEATED!r}).forEach((one) => one.remove())")
    found = Axe().run(page, part).response["violations"]
    return [
        f"{page.url}: {violation['id']}: {node['html'][:200]}"
        for violation in found
        for node in violation["nodes"]
    ]


@in_both
def test_axe_finds_no_violation(
    browser: Any, live_server: str, toy_server: str, size: dict[str, int], scheme: str
) -> None:
    """On no page, with an example opened where there is one, at each size and in each scheme.

    No rule of axe looks at both: colours are the same at all sizes, places in all schemes.
    """
    found: list[str] = []
    for server, paths in ((live_server, list(DEMO.values())), (toy_server, TOY)):
        with visiting(browser, server, viewport=size, color_scheme=scheme) as page:
            for path in paths:
                page.goto(path)
                lines = page.locator(
                    "section[aria-labelledby=top] summary:not(.folded > *):visible"
                )
                if lines.count():
                    lines.first.click()
                    page.locator("section[aria-labelledby=top] [data-context]").first.wait_for()
                found += violations(page)
    assert found == []


def reached(page: Any, most: int) -> set[str]:
    """What the Tab key comes to, as its element's address or words."""
    page.evaluate("document.activeElement.blur()")
    found: set[str] = set()
    for _ in range(most):
        page.keyboard.press("Tab")
        found.add(
            page.evaluate(
                "(() => { const at = document.activeElement;"
                " return at.href || at.innerText || at.name || at.tagName; })()"
            )
        )
    return found


@pytest.mark.parametrize("path", ["/toy/0/0", "/toy", "/toy/0"])
def test_the_keyboard_alone_reaches_everything(browser: Any, toy_server: str, path: str) -> None:
    """Tab comes to every link and every line that opens, but for what stands there twice.

    The cells of a layer's picture are one stop, and its table has the same links.
    """
    with visiting(browser, toy_server, viewport=WIDE) as page:
        page.goto(path)
        wanted = page.evaluate(
            "[...document.querySelectorAll('a[href]:not([tabindex=\"-1\"]), summary, button')]"
            ".filter((one) => one.checkVisibility({visibilityProperty: true}))"
            ".map((one) => one.href || one.innerText || one.name || one.tagName)"
        )
        assert wanted
        missing = set(wanted) - reached(page, 2 * len(wanted) + 30)
        assert missing == set()
