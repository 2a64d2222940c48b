"""The search by token in a real Chromium: what is offered while typing, and picked."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.test_browser import WIDE, visiting
from tests.conftest import serving_live
from tests.helpers.fixture_store import TOY_PRE

TOKENS = "/api/v1/models/demo/tokens"


def offered(page: Any) -> list[str]:
    """What stands in the list under the box."""
    return page.locator("#tokens option").evaluate_all("options => options.map((o) => o.value)")


def pick(page: Any, text: str) -> None:
    """As the list does, which is the browser's own and in no page: puts it in, and says how."""
    page.locator("#token").evaluate(
        "(box, text) => { box.value = text;"
        " box.dispatchEvent(new InputEvent('input', {inputType: 'insertReplacementText'})); }",
        text,
    )


def test_tokens_are_offered_while_one_types(browser: Any, live_server: str) -> None:
    """Those of the JSON, in its order; what is typed is sent as it is; a picked one is gone to."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto("/demo/search")
        items = page.request.get(f"{TOKENS}?prefix=de").json()["items"]
        box = page.locator("#token")
        box.press_sequentially("de")
        page.locator("#tokens option").first.wait_for(state="attached")
        assert offered(page) == [one["token"] for one in items]
        assert " def" in offered(page)
        pick(page, " def")
        page.wait_for_url("**/demo/search?token_id=*")
        assert box.input_value() == " def"
        box.fill(" the")
        box.press("Enter")
        page.wait_for_url("**/demo/search?token=*")
        assert box.input_value() == " the"
        assert page.locator("table.neurons tbody tr").count() > 10


@pytest.mark.parametrize("way", ["picked", "sent"])
def test_a_token_with_a_line_break_is_reached(browser: Any, live_server: str, way: str) -> None:
    """Though the box cannot hold it; the page of the token names it there."""
    with visiting(browser, live_server, viewport=WIDE) as page:
        page.goto("/demo/search")
        items = page.request.get(f"{TOKENS}?prefix=%0A").json()["items"]
        assert {"\n", "\n\n"} <= {one["token"] for one in items}
        wanted = next(one for one in items if one["token"] == "\n\n")
        box = page.locator("#token")
        box.press_sequentially(r"\n")
        page.locator("#tokens option").first.wait_for(state="attached")
        assert offered(page) == [one["token"].replace("\n", r"\n") for one in items]
        if way == "picked":
            pick(page, r"\n\n")
        else:
            box.press_sequentially(r"\n")
            box.press("Enter")
        page.wait_for_url(f"**/demo/search?token_id={wanted['token_id']}", timeout=5000)
        assert box.input_value() == ""
        assert box.get_attribute("placeholder") == "↵↵"
        assert page.locator("#found .chip").inner_text() == "↵↵"


def test_a_picked_token_is_of_the_run_at_hand(browser: Any, sqlite_filled: str) -> None:
    """A run that is not the default one goes along."""
    with (
        serving_live(sqlite_filled) as server,
        visiting(browser, server, viewport=WIDE) as page,
    ):
        page.goto(f"/toy/search?run={TOY_PRE}")
        page.locator("#token").press_sequentially(r"\n")
        page.locator("#tokens option").first.wait_for(state="attached")
        assert offered(page) == [r"\n"]
        pick(page, r"\n")
        page.wait_for_url(f"**/toy/search?token_id=4&run={TOY_PRE}", timeout=5000)
