"""A neuron's page in a real Chromium: lines that open, views that are remembered, hovering."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser.test_browser import PHONE, WIDE, visiting
from tests.conftest import serving_live

NEURON = "/demo/1/10"
TOP = "section[aria-labelledby=top]"


@pytest.fixture(scope="module")
def toy_server(sqlite_filled: str) -> Iterator[str]:
    """The address of a real server over the hand-written store."""
    with serving_live(sqlite_filled) as address:
        yield address


def test_a_line_opens_to_its_whole_context(browser: Any, live_server: str) -> None:
    """It is fetched once, from its own page, shown in place, and closes again."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto(NEURON)
        fetched: list[str] = []
        page.on(
            "request",
            lambda request: (
                "/contexts/" in request.url and fetched.append(urlsplit(request.url).path)
            ),
        )
        example = page.locator(f"{TOP} .example").first
        assert example.locator(".whole").count() == 0
        address = example.locator(".fetch").get_attribute("href")
        example.locator("summary").click()
        whole = example.locator(".whole")
        whole.wait_for()
        assert len(whole.locator("[title]").all()) >= 16
        assert whole.locator("mark").get_attribute("title") == example.locator(
            ".line mark"
        ).get_attribute("title")
        assert fetched == [address]
        example.locator("summary").click()
        assert not whole.is_visible()
        example.locator("summary").click()
        assert whole.is_visible()
        assert fetched == [address], "it was there already"
        assert example.locator(".fetch").inner_text() == "open full page"


def test_an_opened_context_is_read_by_arrow_keys(browser: Any, live_server: str) -> None:
    """One stop for Tab; the arrow keys walk from the peak on, and leave the page where it is."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto(NEURON)
        example = page.locator(f"{TOP} .example").first
        example.locator("summary").focus()
        page.keyboard.press("Enter")
        example.locator(".whole").wait_for()
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        tip = page.locator(".tip")
        assert "exactly" in tip.inner_text(), "it begins at the peak"
        page.keyboard.press("ArrowRight")
        assert "exactly" not in tip.inner_text()
        assert re.search(r"% of m\w\w · position \d+ · id \d+$", tip.inner_text())
        page.keyboard.press("Escape")
        assert not tip.is_visible()
        assert urlsplit(page.url).path == NEURON


def test_without_scripts_a_line_leads_to_its_context(browser: Any, live_server: str) -> None:
    """The opened line has the link, and the context's page has the whole of it and a way back."""
    with visiting(browser, live_server, java_script_enabled=False, viewport=PHONE) as page:
        page.goto(f"{NEURON}?view=window")
        example = page.locator(f"{TOP} .example").nth(1)
        peak = example.locator("mark").get_attribute("title")
        example.locator("summary").click()
        example.get_by_role("link", name="whole context").click()
        assert page.locator(".whole mark").get_attribute("title") == peak
        page.get_by_role("link", name="the neuron", exact=False).first.click()
        assert page.url.endswith(f"{NEURON}?view=window")


def test_a_context_that_cannot_be_fetched_leaves_its_link(browser: Any, live_server: str) -> None:
    """The line says so, and its link goes on leading there."""
    context = browser.new_context(base_url=live_server, viewport=WIDE)
    page = context.new_page()
    page.goto(NEURON)
    page.route("**/contexts/*", lambda route: route.abort())
    example = page.locator(f"{TOP} .example").first
    example.locator("summary").click()
    page.get_by_text("cannot be fetched").wait_for()
    page.unroute("**/contexts/*")
    example.locator(".fetch").click()
    assert page.locator(".whole mark").count() == 1
    context.close()


def test_a_view_is_exchanged_in_place(browser: Any, live_server: str) -> None:
    """One document is loaded, the reader stays at the same example, and Back leaves the page."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto("/demo")
        page.goto(NEURON)
        loaded: list[str] = []
        page.on("framenavigated", lambda frame: loaded.append(frame.url))
        line = page.locator("section[aria-labelledby=random] li").nth(4)
        line.evaluate("(line) => scrollBy(0, line.getBoundingClientRect().top - 30)")
        value = line.locator(".value").inner_text()
        before = line.bounding_box()["y"]
        # Not clicked: the driver would scroll the bar into view first.
        page.get_by_role("link", name="Snippets", exact=True).dispatch_event("click")
        page.wait_for_url(f"**{NEURON}?view=window")
        assert loaded == [page.url], "the address was replaced, and no document loaded"
        assert page.locator("a[aria-current=true]").inner_text() == "Snippets"
        assert line.locator(".value").inner_text() == value
        assert abs(line.bounding_box()["y"] - before) < 2
        line.locator("summary").click()
        line.locator(".whole").wait_for()
        page.get_by_role("link", name="Full context", exact=True).click()
        page.wait_for_url(f"**{NEURON}?view=context")
        page.locator(f"{TOP} .whole[data-context] .tok[tabindex]").first.wait_for()
        page.go_back()
        assert page.url.endswith("/demo")


def test_the_view_is_remembered(browser: Any, live_server: str) -> None:
    """The server sends the layout that was chosen last, unless an address asks for another."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto(NEURON)
        page.get_by_role("link", name="Snippets", exact=True).click()
        page.wait_for_url(f"**{NEURON}?view=window")
        page.goto("/demo/0/3")
        assert page.url.endswith("/demo/0/3")
        assert page.locator("a[aria-current=true]").inner_text() == "Snippets"
        assert page.locator(f"{TOP} ol.windows").count() == 1
        page.goto("/demo/0/3?view=context")
        assert page.locator("a[aria-current=true]").inner_text() == "Full context"
        page.get_by_role("link", name="Aligned", exact=True).click()
        page.wait_for_url("**/demo/0/3?view=peak")
        page.goto(NEURON)
        assert page.locator(f"{TOP} ol.peaks").count() == 1
        page.goto("/demo/0/3?view=window")
        page.get_by_role("link", name="Aligned", exact=True).click()
        page.wait_for_url("**/demo/0/3?view=peak")
        assert page.locator("[href*='view=window']").count() == 1, "only the choice of Snippets"
        assert page.locator(".goto [name=view]").get_attribute("value") == "peak"
        page.keyboard.press("Escape")
        page.locator("h1").click()
        page.keyboard.press("ArrowRight")
        page.wait_for_url("**/demo/0/4?view=peak")
        assert page.locator("a[aria-current=true]").inner_text() == "Aligned"


def test_bins_say_their_counts(browser: Any, live_server: str) -> None:
    """Each bin of each chart says its range and count at once, and is as before afterwards."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto(NEURON)
        before = page.locator(".overview").inner_html()
        for name in ("by-position", "by-context", "effects-all"):
            chart = page.locator(f"svg[aria-labelledby^={name}]")
            chart.scroll_into_view_if_needed()
            box = chart.bounding_box()
            left, wide, _, foot = map(float, chart.get_attribute("data-bins").split())
            unit = box["width"] / 440
            words = page.locator(f"#{name}-bins li").all_text_contents()
            for i in (0, len(words) - 1):
                page.mouse.move(
                    box["x"] + (left + (i + 0.5) * wide) * unit, box["y"] + (foot - 1) * unit
                )
                assert re.fullmatch(r".+ to .+: [\d,]+ \(.+%\)", words[i])
                assert page.locator(".tip").inner_text() == words[i]
        page.mouse.move(0, 0)
        assert not page.locator(".tip").is_visible()
        assert page.locator(".overview").inner_html() == before


def test_a_band_says_its_share(browser: Any, live_server: str) -> None:
    """Over the bins, where nothing else is said."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto(NEURON)
        band = page.locator("svg[aria-labelledby^=by-context] .band").last
        band.scroll_into_view_if_needed()
        box = band.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 2)
        assert re.fullmatch(r"Peak from .* up: .*% of contexts", page.locator(".tip").inner_text())


def test_charts_are_there_in_words(browser: Any, live_server: str) -> None:
    """By keyboard and without scripts: the bins of all three, and what the colours stand for."""
    with visiting(browser, live_server, java_script_enabled=False, viewport=PHONE) as page:
        page.goto(NEURON)
        assert not page.locator(".bins").first.is_visible()
        page.locator(".defs summary").focus()
        page.keyboard.press("Enter")
        for bins in page.locator(".bins").all():
            assert bins.is_visible()
            assert bins.locator("li").count() >= 10
        assert page.locator(".bins").count() == 3
        assert "Steps of colour: 10 above zero" in page.locator(".defs").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


TITLES = (
    "(line) => [...line.querySelectorAll('[title]')].map((one) => [one.title, one.textContent])"
)


def said(title: str) -> tuple[str, str, str]:
    """What is in front of a title's share, the share (rounded from three digits in a line), and
    what is behind it."""
    found = re.fullmatch(r"(.*?)(?:, (\d+)%)?((?: of m|, at).*)", title)
    assert found is not None, title
    return found[1], found[2] or "0", found[3]


@pytest.mark.parametrize("view", ["peak", "window"])
@pytest.mark.parametrize("neuron", ["/demo/1/10", "/toy/1/1", "/toy/0/0"])
def test_a_line_that_is_pointed_at_says_all_of_each_token(
    browser: Any, live_server: str, toy_server: str, neuron: str, view: str
) -> None:
    """Its tokens come to say what they do in their whole context, none moves, and one is said."""
    server = live_server if neuron.startswith("/demo") else toy_server
    with visiting(browser, server, viewport=WIDE) as page:
        page.goto(f"{neuron}?view={view}")
        for example in page.locator(".example").all()[:12]:
            line = example.locator("summary .tok")
            line.scroll_into_view_if_needed()
            box, text = line.bounding_box(), line.text_content()
            mark = line.locator("mark")
            where = mark.bounding_box()
            mark.hover()
            told = page.locator(".tip").inner_text()
            assert "exactly" in told
            page.mouse.move(0, 0)
            assert line.get_attribute("data-at") is None
            assert (line.bounding_box(), line.text_content()) == (box, text)
            assert mark.bounding_box() == where
            shown = line.evaluate(TITLES)
            context = page.context.request.get(example.locator(".fetch").evaluate("(a) => a.href"))
            whole = page.evaluate(
                "(html) => [...new DOMParser().parseFromString(html, 'text/html')"
                ".querySelectorAll('.whole [title]')].map((one) => [one.title, one.textContent])",
                context.text(),
            )
            # Where a line is aligned on its trough, its context is marked elsewhere.
            titles = {title.split(", at ")[-1]: title for title, _ in whole}
            assert len(shown) > 1 or len(whole) == 1
            for title, _ in shown:
                same = titles[title.split(", at ")[-1]]
                if "exactly" not in title + same:
                    assert said(title)[0::2] == said(same)[0::2]
                    assert abs(int(said(title)[1]) - int(said(same)[1])) <= 1


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_tokens_without_colour_say_what_they_are(
    browser: Any, live_server: str, size: dict[str, int]
) -> None:
    """At the first touch of the pointer, although they have no element of their own yet."""
    with visiting(browser, live_server, viewport=size) as page:
        page.goto(NEURON)
        line = page.locator("section[aria-labelledby=random] .line").nth(2)
        line.scroll_into_view_if_needed()
        box = line.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2)
        tip = page.locator(".tip")
        assert re.search(r"% of m\w\w · position \d+ · id \d+$", tip.inner_text())


@pytest.mark.parametrize("view", ["peak", "window", "context"])
def test_hostile_tokens_change_nothing(browser: Any, toy_server: str, view: str) -> None:
    """Opened, hovered and walked over, whatever the tokens are: no markup, no wider page."""
    with visiting(browser, toy_server, viewport=PHONE) as page:
        page.on("dialog", lambda dialog: pytest.fail(f"a token opened {dialog.message}"))
        page.goto(f"/toy/1/1?view={view}")
        heights = page.locator(".peaks .line").evaluate_all(
            "(all) => all.map((one) => one.getBoundingClientRect().height)"
        )
        assert not heights or max(heights) - min(heights) < 1, "every line is as high as any other"
        for summary in page.locator(".example summary").all():
            summary.click()
        page.wait_for_load_state("networkidle")
        for token in page.locator("mark").all():
            token.hover()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert page.locator(".whole").count() >= 4
        assert page.locator(".examples :is(script, img, b b)").count() == 0
