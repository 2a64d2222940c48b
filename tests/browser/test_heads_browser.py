"""Attention heads in a real Chromium: arrows, hover and keyboard, and the form for custom text."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tests.browser.test_browser import PHONE, WIDE, visiting
from tests.browser.test_focus_browser import SMALL
from tests.conftest import serving_live

HEAD = "/demo/heads/1/2"
ARROW_ENDS = """() => {
  const path = document.querySelector(".arrow path")?.getAttribute("d");
  if (!path) return null;
  const box = document.querySelector(".pair-text").getBoundingClientRect();
  const numbers = path.match(/-?[\\d.]+/g).map(Number);
  return [numbers.slice(0, 2), numbers.slice(6, 8)].map(([x, y]) => {
    const token = document.elementFromPoint(box.left + x, box.top + y + 4).closest("[data-p]");
    return Number(token.dataset.p);
  });
}"""
"""The positions of the tokens at both ends of the only arrow."""


def test_a_line_points_where_its_head_looks(browser: Any, heads_store: tuple[str, Path]) -> None:
    """Each line has an arrow from query to key; a token that is pointed at, or reached by keyboard,
    shows its own row, and leaving brings the line's own back."""
    with serving_live(heads_store[0]) as server, visiting(browser, server, viewport=WIDE) as page:
        page.goto(HEAD)
        page.get_by_role("navigation", name="Rankings").get_by_role("link").nth(3).focus()
        page.keyboard.press("Enter")
        assert page.url.endswith("#hurts")
        assert page.locator("#hurts").evaluate("h => h.getBoundingClientRect().top") < 200
        lines = page.locator("li.pair:has(u):has(mark)")
        page.locator(".arrow").first.wait_for()
        assert page.locator("li.pair .arrow").count() == lines.count() > 10
        line = lines.first
        own = line.locator(".arrow path").get_attribute("d")
        line.locator("[data-p]").last.hover()
        line.locator("[data-p].from").wait_for()
        page.mouse.move(0, 0)
        line.locator("[data-p].from").wait_for(state="detached")
        assert line.locator(".arrow path").get_attribute("d") == own
        line.locator(".pair-text").focus()
        page.keyboard.press("ArrowRight")
        line.locator("[data-p].from:has(u)").wait_for()
        page.keyboard.press("ArrowLeft")
        line.locator("[data-p].from:not(:has(u))").wait_for()
        _arrows_pass_over_what_no_pair_has(page)


def _answer(body: dict[str, Any], route: Any) -> None:
    route.fulfill(json=body)


def _arrows_pass_over_what_no_pair_has(page: Any) -> None:
    """On a whole context the arrow leads to the strongest earlier token that is neither the BOS nor
    special; without one there is no arrow."""
    href = page.locator("li.pair .facts a").first.get_attribute("href")
    context = page.request.get(f"/api/v1/models{href}").json()
    rows = [[key for key, _ in row if key != query] for query, row in enumerate(context["rows"])]
    query = next(i for i, keys in enumerate(rows) if keys[:1] == [0] and len(keys) > 2)
    _, first, second, *_ = rows[query]
    assert (context["included_from"], context["special"]) == (1, [])
    for special, key in (([], first), ([first], second), (rows[query], None), ([query], None)):
        page.route("**/api/v1/**", partial(_answer, context | {"special": special}))
        page.goto(href)
        page.locator(f"[data-p='{query}']").hover()
        page.locator(f"[data-p='{query}'].from").wait_for()
        ends = page.evaluate(ARROW_ENDS)
        assert ends == (None if key is None else [query, key])
        page.unroute("**/api/v1/**")


def test_a_head_reads_a_text_without_scripts(browser: Any, heads_store: tuple[str, Path]) -> None:
    """The form on a head's page leads to the result, on a phone and without JavaScript."""
    options = {"java_script_enabled": False, "viewport": PHONE}
    with (
        serving_live(heads_store[0], live=True) as server,
        visiting(browser, server, **options) as page,
    ):
        page.set_default_timeout(120_000)  # the model is loaded first
        page.goto(HEAD)
        assert page.evaluate(SMALL) == []
        page.get_by_label("Text", exact=True).fill("the king said the king")
        page.get_by_label("Patch from").fill("the man saw the king")
        page.get_by_role("button", name="Run").click()
        assert page.locator(".choices").count() == 5
        assert page.locator(".small-patterns svg").count() == 5
        parts = page.get_by_role("region", name="Table of direct effects")
        assert parts.locator("tbody tr").count() == 2
        assert parts.is_visible()
        assert page.locator("dt", has_text="remainder").is_visible()
        assert page.evaluate(SMALL) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        page.goto(HEAD)
        page.locator("li.pair .facts a").first.click()
        assert page.locator("svg.pattern").is_visible()
        assert page.locator("svg.pattern rect, svg.pattern path").count() > 0
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
