"""Nothing in the store becomes markup: hostile tokens and names stay text on every page."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from tests.app.test_pages import section
from tests.helpers import fixture_neurons, fixture_store
from tests.helpers.fixture_store import MARKUP_SOURCE
from tests.helpers.html_reader import read

IN_EXAMPLES = set(
    "div nav ul li a span figure i section h2 h3 p ol details summary b mark code noscript "
    "figcaption svg g rect text tspan title".split()
)
ON_EXAMPLES = set(
    "class title id href role tabindex open data-at data-context data-key data-max data-min "
    "data-view data-roving scope x y width height".split()
)


@pytest.mark.parametrize("path", ["/", "/toy", "/toy/1", "/toy/1/1", "/toy/0/0", "/runs/3"])
def test_nothing_in_the_store_becomes_markup(client: TestClient, path: str) -> None:
    """Scripts are our own files; no element has a style or a handler; none is unexpected."""
    page = read(client, path)
    for script in page.all("script"):
        assert script.attributes["src"].startswith("/static/")
        assert not script.text.strip()
    for element in page.walk():
        assert element.tag not in {"img", "iframe", "object", "embed", "style", "base"}
        if element.tag == "form":
            assert re.fullmatch(
                r"/go|/[\w.-]+(/(search|neurons|\d+))?", element.attributes["action"]
            )
        for name in element.attributes:
            assert not name.startswith("on")
            assert name != "style"
    assert "alert(1)" not in "".join(
        value
        for one in page.walk()
        for name, value in one.attributes.items()
        if name not in {"title", "aria-label", "content"}  # text to be read, never followed or run
    )


def test_tokens_stay_text_inside_examples(client: TestClient) -> None:
    """Inside the examples there are only the template's elements and attributes."""
    page = read(client, "/toy/1/1")
    (examples,) = page.all("div", "examples")
    for element in examples.walk():
        assert element.tag in IN_EXAMPLES
        for name in element.attributes:
            assert name in ON_EXAMPLES or name.startswith("aria-"), f"{name} on <{element.tag}>"
    for context in examples.all("p", "tok"):
        assert {element.tag for element in context.walk()} <= {"p", "span", "mark", "i"}
    text = examples.text
    for token in ("<script>alert(1)</script>", "{{ page }}", "&amp;</span></p></details>", "é"):
        assert token in text
    assert fixture_store.ATTRIBUTE in text


def test_an_emoji_split_over_tokens_is_shown_whole(client: TestClient) -> None:
    """The pieces of a character stand together as the character."""
    examples = section(read(client, "/toy/1/1"), "top")
    assert fixture_neurons.EMOJI in examples.text
    assert "\\xff" in examples.text, "a byte that is part of none stays a byte"


def test_characters_that_cannot_be_seen_are_spelled_out(client: TestClient) -> None:
    """Control, bidirectional and zero-width characters never reach the page themselves."""
    for path in ("/toy/1/1", "/toy/1", "/toy/0"):
        body = client.get(path).text
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200b\u200d\ufeff\u202e\u2066]", body)
    text = read(client, "/toy/1/1").text
    for spelled in ("‹U+202E›", "‹U+200B›", "‹NUL›", "‹ESC›", "‹DEL›"):
        assert spelled in text


def test_a_very_long_token_does_not_fill_the_page(client: TestClient) -> None:
    """A token of ten thousand characters is cut everywhere it is shown."""
    for path in ("/toy/1/1", "/toy/1"):
        assert "W" * 1001 not in client.get(path).text
    assert len(client.get("/toy/1/1").content) < 60_000


def test_a_source_s_markup_is_text(client: TestClient) -> None:
    """A source's name is shown character by character."""
    page = read(client, "/toy/0/0")
    assert MARKUP_SOURCE in [source.text for source in page.all("span", "source")]
    assert not page.all("em")


# --- What is not there --------------------------------------------------------------------------
