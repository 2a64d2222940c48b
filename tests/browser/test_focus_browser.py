"""What a page says about the element that has the focus, the pointer or a finger, and how the focus
moves."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.test_browser import PAGES, PHONE, WIDE, visiting
from tests.browser.test_neuron_page_browser import NEURON

AT = "document.activeElement"
RUNG = """(() => {
  const { left, top, right, bottom } = document.activeElement.getBoundingClientRect();
  const ring = parseFloat(getComputedStyle(document.activeElement).outlineOffset) + 2;
  for (let at = document.activeElement.parentElement; at; at = at.parentElement) {
    const box = at.getBoundingClientRect();
    const clips = getComputedStyle(at).overflowX !== "visible" && at !== document.body;
    if (clips && (left - ring < box.left - 0.5 || top - ring < box.top - 0.5 ||
        right + ring > box.right + 0.5 || bottom + ring > box.bottom + 0.5)) {
      return at.className || at.tagName;
    }
  }
  return "";
})()"""


def test_statistics_say_what_they_are(browser: Any, live_server: str) -> None:
    """In the page's own tip, under the pointer and on focus, and as titles for everyone else."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto(NEURON)
        stat, tip = page.locator(".stats abbr").first, page.locator(".tip")
        words = stat.get_attribute("title")
        stat.hover()
        assert tip.inner_text() == words
        assert stat.get_attribute("title") is None, "the browser must not show it as well"
        page.mouse.move(0, 0)
        assert not tip.is_visible()
        assert stat.get_attribute("title") == words
        page.keyboard.press("Tab")  # so that the focus is that of a keyboard
        stat.focus()
        assert tip.inner_text() == words
        page.keyboard.press("ArrowRight")
        assert tip.inner_text() == page.evaluate(f"{AT}.title") or tip.is_visible()
        page.keyboard.press("Escape")
        assert not tip.is_visible()
        assert page.url.endswith(NEURON), "the arrow moved the focus, not the page"


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_definitions_are_in_reach_of_the_keyboard(
    browser: Any, live_server: str, size: dict[str, int]
) -> None:
    """Those of a comparison: one stop, then the arrows; on a phone no definition is too low or
    narrow for a finger. The steps of a picture's colours, too."""
    with visiting(browser, live_server, viewport=size) as page:
        for path, items in (
            ("/compare?a=demo/1/349&b=demo/1/10", ".both abbr"),
            ("/demo/1?picture=max", ".steps-of-colour > li"),
        ):
            page.goto(path)
            stops = page.locator(f"{items}[tabindex='0']")
            stops.wait_for()
            page.keyboard.press("Tab")  # so that the focus is that of a keyboard
            words = stops.get_attribute("title")
            stops.focus()
            assert page.locator(".tip").inner_text() == words
            second = page.locator(items).nth(1).get_attribute("title")
            page.keyboard.press("ArrowDown")
            assert page.locator(".tip").inner_text() == second != words
            if size is PHONE and "abbr" in items:
                boxes = page.locator(items).evaluate_all(
                    "all => all.map((one) => one.getBoundingClientRect())"
                    ".map((box) => Math.min(box.width, box.height))"
                )
                assert min(boxes) >= 24


def test_parts_of_pictures_use_the_same_tip(browser: Any, live_server: str) -> None:
    """A token of the logo says its count, without the browser's own tip."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto("/demo/1/349")
        part = page.locator(".logo .peak g").first
        said = part.locator("title").text_content()
        part.locator("rect").hover(force=True)
        assert page.locator(".tip").inner_text() == said
        assert part.locator("title").count() == 0
        page.mouse.move(2, 2)
        assert not page.locator(".tip").is_visible()
        page.goto("/demo/1")
        dot = page.locator("figure svg a").last  # no other covers it
        said = dot.locator("title").text_content()
        dot.hover(force=True)
        assert page.locator(".tip").inner_text() == said
        assert dot.get_attribute("aria-label") == said


def test_a_value_says_itself_exactly_to_a_finger(browser: Any, live_server: str) -> None:
    """A tap shows what hovering shows."""
    with visiting(browser, live_server, viewport=PHONE, has_touch=True) as page:
        page.goto(NEURON)
        stat = page.locator(".stats abbr").first
        words = stat.get_attribute("title")
        stat.tap()
        assert page.locator(".tip").inner_text() == words


def test_a_list_of_chips_is_one_stop(browser: Any, live_server: str) -> None:
    """Tab goes from list to list, arrows inside them; the ring round a chip is whole."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto(NEURON)
        piece = page.locator(".summary .chip:has(.mid)").first
        drawn = "(chip) => getComputedStyle(chip.querySelector('.mid'), '::before').content"
        assert '"-"' in piece.evaluate(drawn), "a word piece has a hyphen"
        assert "-" not in piece.inner_text(), "which is not part of it"
        lists = page.locator("[data-roving]:has(a)")
        assert lists.count() >= 5
        for at in range(lists.count()):
            items = lists.nth(at).locator("a")
            assert (
                items.evaluate_all("(all) => all.filter((one) => one.tabIndex === 0).length") == 1
            )
            page.keyboard.press("Tab")
            items.first.focus()
            assert page.evaluate(RUNG) == ""
            page.keyboard.press("End")
            assert page.evaluate(f"{AT}.href") == items.last.evaluate("(one) => one.href")
            assert page.evaluate(RUNG) == ""
            page.keyboard.press("Home")
            assert page.evaluate(f"{AT}.href") == items.first.evaluate("(one) => one.href")


SMALL = """[...document.querySelectorAll("a, button, summary, abbr[tabindex], input.tick")]
  .filter((one) => one.checkVisibility() && !one.closest("p, figure svg"))
  .filter((one) => !one.matches(".skip, .unseen"))
  .map((one) => [one, one.getBoundingClientRect()])
  .filter(([, box]) => box.height && (box.height < 23.9 || box.width < 23.9))
  .map(([one, box]) => `${one.outerHTML.slice(0, 80)} ${box.width}×${box.height}`)"""
"""What a finger may miss. Dots of pictures may be small: a table has the same links."""
UNREACHED = """[...document.querySelectorAll("main [title]")]
  .filter((one) => one.checkVisibility())
  .filter((one) => !one.closest("a, button, summary, label, .tok, .ramp, .pair"))
  .filter((one) => !one.closest("[tabindex]:not(main, .scroll)"))
  .map((one) => one.outerHTML.slice(0, 80))"""
"""What is said only to a pointer. Tokens, the colour scale and pairs have scripts and words of
their own; the title of a link is said once the link has the focus."""
FIELDS = """[...document.querySelectorAll(
    "input:not([type=hidden], [type=checkbox], [type=radio]), textarea, select")]
  .map((one) => parseFloat(getComputedStyle(one).fontSize))"""


def test_a_finger_hits_what_it_aims_at(browser: Any, live_server: str) -> None:
    """Nothing to touch is under 24 pixels, on any page, but for links within sentences; fields are
    16 pixels of type, or a phone would zoom in. Nothing is said to a pointer alone."""
    paths = [path for name, path in PAGES.items() if name not in ("docs", "missing")]
    with visiting(browser, live_server, viewport=PHONE) as page:
        for path in (NEURON, *paths, "/demo/neurons?q=max%3E1"):
            page.goto(path)
            small = page.evaluate(SMALL)
            assert not small, "\n".join([path, *small])
            assert page.evaluate(UNREACHED) == [], path
            fields = page.evaluate(FIELDS)
            assert fields
            assert min(fields) >= 16, path
            assert page.evaluate("getComputedStyle(document.documentElement).fontSize") == "16px"
