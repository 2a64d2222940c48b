"""Notes in a real Chromium, with and without scripts; for every reader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from tests.browser.test_accessibility import violations
from tests.browser.test_browser import PHONE, SCREENSHOTS, WIDE, in_both, visiting
from tests.conftest import fill, serving_live
from tests.helpers.note_servers import HOSTILE, NEURON, OTHER, TOKEN, keeping, write

WRITTEN = "/toy/1/1"
"""The neuron that has notes from the beginning."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server over the hand-written store which keeps notes."""
    path = tmp_path_factory.mktemp("notes") / "store.db"
    options = {"notes": True, "notes_token": SecretStr(TOKEN)}
    with fill(f"sqlite:///{path}") as url:
        with keeping(url) as client:
            for author in ("Mira", "\u202ek"):
                write(client, HOSTILE, author, OTHER)
        with serving_live(url, **options) as address:
            yield address


def type_in(page: Any, author: str, text: str, token: str) -> None:
    """Open the form, fill it in and send it."""
    page.locator(".write > summary").click()
    form = page.locator(".write form")
    form.get_by_label("Note").fill(text)
    form.get_by_label("Author").fill(author)
    form.get_by_label("Token").fill(token)
    form.get_by_role("button", name="Save note").click()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_note_is_written_and_deleted_without_scripts(
    browser: Any, server: str, size: dict[str, int]
) -> None:
    """Whatever is in it, the page is no wider than the window and stands as it stood."""
    with visiting(browser, server, viewport=size, java_script_enabled=False) as page:
        page.goto(NEURON)
        before = page.locator("h1").bounding_box()
        type_in(page, "\u202eMira", HOSTILE, TOKEN)
        page.wait_for_url(f"**{NEURON}#notes")
        note = page.locator(".written li")
        assert note.count() == 1
        assert "<script>alert(1)</script>" in note.inner_text()
        assert "‹U+202E›Mira" in note.get_by_role("heading").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        page.goto(NEURON)
        assert page.locator("h1").bounding_box() == before
        box = note.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size["width"]
        line = note.locator(".said").evaluate("e => parseFloat(getComputedStyle(e).lineHeight)")
        lines = note.locator(".said").bounding_box()["height"] / line
        assert lines >= 5, "its line breaks are kept"
        kind = "wide" if size is WIDE else "phone"
        page.locator("section.notes").screenshot(path=SCREENSHOTS / f"notes-{kind}.png")
        note.locator(".delete summary").click()
        note.get_by_label("Token").fill(TOKEN)
        note.get_by_role("button", name="Delete this note").click()
        page.wait_for_url(f"**{NEURON}#notes")
        assert note.count() == 0


def test_the_token_is_remembered_until_the_tab_is_closed(browser: Any, server: str) -> None:
    """Author and token are there for the next note, in this tab alone; a wrong one is not."""
    context = browser.new_context(base_url=server, viewport=WIDE)
    page = context.new_page()
    page.goto(NEURON)
    token, author = page.locator("#note-token"), page.locator("#note-author")
    type_in(page, "Mira", "with the wrong one", "wrong")
    page.get_by_role("alert").wait_for()
    assert "not the server's token" in page.get_by_role("alert").inner_text()
    assert page.locator("#note-text").input_value() == "with the wrong one"
    assert (token.input_value(), author.input_value()) == ("", "Mira")
    token.fill(TOKEN)
    page.get_by_role("button", name="Save note").click()
    page.wait_for_url(f"**{NEURON}#notes")
    assert (token.input_value(), author.input_value()) == (TOKEN, "Mira")
    page.goto("/toy/1/3")
    assert token.input_value() == TOKEN
    other = context.new_page()
    other.goto(NEURON)
    assert other.locator("#note-token").input_value() == ""
    page.goto(NEURON)
    page.locator(".delete summary").first.click()
    page.get_by_role("button", name="Delete this note").first.click()
    page.wait_for_url(f"**{NEURON}#notes")
    assert page.locator(".written li").count() == 0
    context.close()


@in_both
def test_axe_finds_no_violation(
    browser: Any, server: str, size: dict[str, int], scheme: str
) -> None:
    """With no notes and with some, forms open; on the neuron's page as on that of notes."""
    found: list[str] = []
    with visiting(browser, server, viewport=size, color_scheme=scheme) as page:
        for path in ("/toy/1/3", WRITTEN, f"{WRITTEN}/notes"):
            page.goto(path)
            page.evaluate("document.querySelectorAll('.notes details').forEach(e => e.open = true)")
            found += violations(page, "section.notes")
        page.goto("/notes")
        found += violations(page)
    assert found == []
