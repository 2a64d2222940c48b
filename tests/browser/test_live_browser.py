"""The box for a text of one's own in a real Chromium, with and without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.test_browser import PHONE, SCREENSHOTS, WIDE, follow, in_both, visiting
from tests.browser.test_focus_browser import UNREACHED
from tests.conftest import serving_live

NEURON = "/demo/1/349"
TEXT = "def f(x):\n    if x:\n        return 1\n    else:\n        "
FIRST_LOAD = 120_000
"""Milliseconds for a model to be loaded by a busy machine."""


@pytest.fixture(scope="module")
def server(demo_store: str, browser: Any) -> Iterator[str]:
    """A live server over the demo that has its model loaded."""
    with serving_live(demo_store, live=True) as address:
        context = browser.new_context()
        path = "/api/v1/models/demo/layers/1/neurons/349/activations"
        data = {"text": "a"}
        assert context.request.post(address + path, data=data, timeout=FIRST_LOAD).ok
        context.close()
        yield address


def typed(page: Any, text: str) -> Any:
    """The result of a text that was typed and sent by the keyboard."""
    field = page.get_by_label("Text for the neuron to read")
    field.fill(text)
    field.press("Control+Enter")
    page.locator("#live .status.unseen").wait_for(state="attached")  # it is read out, not shown
    return page.locator("#live-result")


def test_a_text_is_read_without_leaving_the_page(browser: Any, server: str) -> None:
    """Typed and sent by the keyboard: coloured, its peak marked and printed, three predictions."""
    with visiting(browser, server, viewport=WIDE) as page:
        page.goto(NEURON)
        result = typed(page, TEXT)
        assert page.url.endswith(NEURON)
        mark = result.locator("mark")
        assert mark.count() == 1
        assert "underline" in mark.evaluate("e => getComputedStyle(e).textDecorationLine")
        peak = result.locator("#live-peak .value").inner_text()
        exact = result.locator("#live-peak .value").get_attribute("title")
        assert f"{exact} exactly" in mark.get_attribute("title")
        assert "of the sample's contexts" in result.locator(".place").inner_text()
        heads = [result.locator(f"#live-{part}").bounding_box()["y"] for part in ("peak", "mind")]
        assert heads[0] == pytest.approx(heads[1], abs=1), "both parts begin on one line"
        assert result.get_by_role("img").count() == 1
        assert result.get_by_role("table").count() == 3
        assert [
            len(table.locator("tbody tr").all()) for table in result.locator("table").all()
        ] == [
            10,
            10,
            10,
        ]
        assert "to the logit of" in result.locator(".direct").inner_text()
        status = page.locator("#live [role=status]")
        assert status.inner_text().startswith(f"Peak {peak}")

        page.get_by_label("Text for the neuron to read").fill("and the")
        page.get_by_role("button", name="Run").click()
        result.locator("mark", has_text="the").or_(
            result.locator("mark", has_text="and")
        ).wait_for()
        assert page.locator("#live-result").count() == 1


def test_a_result_can_be_linked(browser: Any, server: str) -> None:
    """The link holds the text that was run, whatever is typed since; it opens the same result."""
    text = "x = 1 & 2 # é\n\t🙂"
    with visiting(browser, server, viewport=WIDE) as page:
        page.goto(NEURON)
        assert not page.get_by_role("button", name="Copy link").is_visible()
        result = typed(page, text)
        peak = result.locator("#live-peak").inner_text()
        page.get_by_label("Text for the neuron to read").fill("other")
        page.get_by_role("button", name="Copy link").click()
        link = page.url
        assert "address bar" in page.locator("#live .status").inner_text()
    with visiting(browser, server, viewport=WIDE) as page:
        page.goto(link)
        page.locator("#live-result mark").wait_for()
        assert page.locator("#live-peak").inner_text() == peak
        assert page.get_by_label("Text for the neuron to read").input_value() == text
        page.goto(f"{NEURON}#top")
        page.goto(f"{NEURON}#text=and+the")
        page.locator("#live-result .read", has_text="and").wait_for()
        page.goto(f"{BEHAVIOUR}#text=the+sea&against=a+king&by=percentile&k=5")
        page.locator("#result .apart").first.wait_for()
        page.wait_for_load_state()
        assert page.get_by_label("Compare with").input_value() == "a king"
        assert page.get_by_label("percentile").is_checked()
        page.get_by_role("button", name="Copy link").click()
        assert page.url.endswith("/behaviour#text=the+sea&against=a+king&by=percentile&k=5")
        page.go_back()
        page.locator("#live-result").wait_for()  # not the form again, which would send it again


def test_tokens_of_the_text_are_told_like_others(browser: Any, server: str) -> None:
    """Hovering and the arrow keys say a token's value, at once."""
    with visiting(browser, server, viewport=WIDE) as page:
        page.goto(NEURON)
        result = typed(page, TEXT)
        result.locator("mark").hover()
        tip = page.locator(".tip")
        assert "exactly" in tip.inner_text()
        page.mouse.move(0, 0)
        page.get_by_role("button", name="Copy link").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        assert "exactly" in tip.inner_text()
        page.keyboard.press("ArrowLeft")
        assert "position" in tip.inner_text()
        assert "exactly" not in tip.inner_text()
        assert page.evaluate(UNREACHED) == []
        page.locator(".choices .chip[tabindex='0']").focus()
        page.keyboard.press("ArrowDown")
        assert tip.inner_text().startswith("id "), "of a predicted token"
        assert page.url.endswith(NEURON)


@pytest.mark.parametrize("reading", ["", "?view=context"])
def test_an_example_is_put_into_the_box(browser: Any, server: str, reading: str) -> None:
    """Its whole text, read at once, ready to be edited."""
    with visiting(browser, server, viewport=WIDE) as page:
        page.goto(NEURON + reading)
        section = page.locator("section[aria-labelledby=top] li").first
        if not reading:
            section.locator("summary").click()
        whole = section.locator("[data-context]")
        context = whole.get_attribute("data-context")
        whole.get_by_role("button", name="Test this text").click()
        page.locator("#live-result mark").wait_for()
        field = page.get_by_label("Text for the neuron to read")
        path = f"/api/v1/models/demo/layers/1/neurons/349/contexts/{context}"
        told = page.request.get(server + path).json()
        assert field.input_value() == told["text"]
        assert field.evaluate("e => e === document.activeElement")
        shown = page.locator("#live-result mark").get_attribute("title")
        assert f", at {told['example']['peak_position']}, id " in shown


def test_without_scripts_the_form_leads_to_a_page(browser: Any, server: str) -> None:
    """The same result on a page of its own, the text still in its box."""
    with visiting(browser, server, viewport=WIDE, java_script_enabled=False) as page:
        page.goto(NEURON)
        field = page.get_by_label("Text for the neuron to read")
        field.fill(TEXT)
        page.get_by_role("button", name="Run").click()
        page.wait_for_url(f"**{NEURON}/try")
        assert page.locator("#live-result mark").count() == 1
        assert field.input_value() == TEXT
        page.get_by_role("link", name="neuron 349").click()
        page.wait_for_url(f"**{NEURON}")
        result = steered(page, TEXT)
        texts = [result.get_by_label(f"Generated {how} steering") for how in ("without", "with")]
        assert texts[0].inner_text() != texts[1].inner_text()
        assert "nats a token" in result.inner_text()
        assert page.get_by_label("Strength").input_value() == "40"


def test_what_goes_wrong_is_said_in_place(browser: Any, server: str) -> None:
    """A text that is too long, and a server that is away: a sentence, and the text stays."""
    context = browser.new_context(base_url=server, viewport=WIDE)
    page = context.new_page()
    page.goto(NEURON)
    field = page.get_by_label("Text for the neuron to read")
    field.fill("the " * 300)
    field.press("Control+Enter")
    notice = page.locator("#live-result [role=alert]")
    notice.wait_for()
    assert "the maximum is 128" in notice.inner_text()
    assert field.input_value() == "the " * 300
    page.route("**/try", lambda route: route.abort())
    field.fill("the")
    field.press("Meta+Enter")
    page.get_by_text("The server does not answer").wait_for()
    page.unroute("**/try")
    assert typed(page, "the").locator("mark").count() == 1
    assert not page.locator("#live-result [role=alert]").count()
    context.close()


def test_a_late_answer_does_not_replace_a_newer_one(browser: Any, server: str) -> None:
    """What is shown is what was sent last, in whatever order answers come."""
    with visiting(browser, server, viewport=WIDE) as page:
        held: list[Any] = []

        def hold(route: Any) -> None:
            if "first" in (route.request.post_data or ""):
                held.append(route)
            else:
                route.continue_()

        page.route("**/try", hold)
        page.goto(NEURON)
        field = page.get_by_label("Text for the neuron to read")
        field.fill("first")
        field.press("Control+Enter")
        result = typed(page, "the second")
        with page.expect_response("**/try"):
            held[0].continue_()
        page.wait_for_timeout(300)
        assert "second" in result.locator(".read").inner_text()
        assert "first" not in result.locator(".read").inner_text()


@in_both
def test_the_box_fits_its_window(
    browser: Any, server: str, size: dict[str, int], scheme: str
) -> None:
    """Nothing is wider than the window, also with a word that cannot be broken; pictures kept."""
    with visiting(browser, server, viewport=size, color_scheme=scheme) as page:
        page.goto(NEURON)
        width = "document.documentElement.scrollWidth"
        typed(page, "x" * 80 + "\n" + "🙂" * 9)
        assert page.evaluate(width) <= size["width"]
        typed(page, TEXT)
        assert page.evaluate(width) <= size["width"]
        for note in page.locator(".choices caption .quiet").all():
            assert note.evaluate("e => e.scrollWidth <= e.clientWidth"), note.inner_text()
        kind = "wide" if size is WIDE else "phone"
        page.locator("#live").screenshot(path=SCREENSHOTS / f"live-{kind}-{scheme}.png")
        steered(page, TEXT)
        assert page.evaluate(width) <= size["width"]
        page.screenshot(path=SCREENSHOTS / f"steer-{kind}-{scheme}.png", full_page=True)


def steered(page: Any, text: str) -> Any:
    """From a neuron's page to a text continued with it and without; the result."""
    page.get_by_role("link", name="Steer a text with this neuron").click()
    page.get_by_label("Text to continue").fill(text)
    page.get_by_label("Strength").fill("40")
    page.get_by_label("New tokens").fill("12")
    page.get_by_role("button", name="Generate").click()
    page.locator("#steered").wait_for()
    return page.locator("#steered")


# --- All neurons on a text ----------------------------------------------------------------------

BEHAVIOUR = "/demo/behaviour"
HOSTILE = f"x = '</td><script>1</script>'\n\t🙂 {'y' * 40}\u202e"


def found(page: Any, text: str, against: str = "") -> Any:
    """The result of texts that were typed and sent by the keyboard."""
    page.goto(BEHAVIOUR)
    page.get_by_label("Compare with").fill(against)
    field = page.get_by_label("Text", exact=True)
    field.fill(text)
    field.press("Control+Enter")
    result = page.locator("#result")
    result.wait_for()
    page.wait_for_load_state()  # the result can be seen before the scripts that follow it run
    return result


def test_neurons_are_found_by_a_text(browser: Any, server: str) -> None:
    """From the search to the picture: a cell says what it is under the pointer and by the keyboard,
    and leads to its neuron."""
    with visiting(browser, server, viewport=WIDE) as page:
        page.goto("/demo/search")
        form = page.get_by_role("form", name="By custom text")
        form.get_by_role("textbox").fill(TEXT)
        form.get_by_role("button").click()
        result = page.locator("#result")
        result.wait_for()
        page.wait_for_load_state()  # with its scripts
        assert page.get_by_label("Text", exact=True).input_value() == TEXT
        cells = result.locator(".heat tbody a")
        tip = page.locator(".tip")
        cells.nth(3).hover()
        assert tip.inner_text().startswith("layer 0, ")
        page.mouse.move(0, 0)
        assert not tip.is_visible()
        cells.first.focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowRight")
        assert tip.inner_text().startswith("layer 1, ")
        assert tip.inner_text().endswith("% of its maximum")
        href = page.evaluate("document.activeElement.getAttribute('href')")
        stops = result.locator(".heat tbody a[tabindex='0']")
        assert [stops.count(), stops.get_attribute("href")] == [1, href]
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{href}")


def test_two_texts_are_told_apart_without_scripts(browser: Any, server: str) -> None:
    """The form is a form: what it leads to has both tables, and every cell a title."""
    options = {"viewport": PHONE, "java_script_enabled": False}
    with visiting(browser, server, **options) as page:
        page.goto(BEHAVIOUR)
        page.get_by_label("Text", exact=True).fill(TEXT)
        page.get_by_label("Compare with").fill("And the king said")
        page.get_by_label("percentile").check()
        follow(page.get_by_role("button", name="Find"))
        assert page.locator("table.apart").count() == 2
        assert page.get_by_label("percentile").is_checked()
        cells = page.locator(".heat tbody a")
        assert cells.count() == page.locator(".heat tbody a[title*='positions lower']").count() > 0


@in_both
def test_the_picture_and_the_tables_fit(
    browser: Any, server: str, size: dict[str, int], scheme: str
) -> None:
    """Nothing is wider than the window, whatever the text: the picture scrolls, neurons wrap."""
    with visiting(browser, server, viewport=size, color_scheme=scheme) as page:
        result = found(page, HOSTILE, "And the king said")
        width = "document.documentElement.scrollWidth"
        assert page.evaluate(width) <= size["width"]
        assert page.evaluate(UNREACHED) == []
        page.locator(".apart [tabindex='0']").first.focus()
        page.keyboard.press("ArrowRight")
        assert " at position " in page.locator(".tip").inner_text()
        cells = result.locator(".firing td").evaluate_all(
            "all => all.map(e => e.getBoundingClientRect().right)"
        )
        assert 0 < max(cells) <= size["width"]  # a token's neurons wrap
        kind = "wide" if size is WIDE else "phone"
        page.screenshot(path=SCREENSHOTS / f"behaviour-{kind}-{scheme}.png")
