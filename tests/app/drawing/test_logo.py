"""Tokens by position: columns counted by hand, and markup that holds hostile tokens."""

from __future__ import annotations

import re

from app.drawing.logo import AFTER, BEFORE, columns, logo, short
from tests.helpers.html_reader import elements

WINDOWS = [
    (["<s>", "x", "def", " f", "("], 2, 1),
    (["y", "def", " g"], 1, 0),
    (["def"], 0, 0),
]
"""Tokens, where the peak is, and the first included token."""


def test_columns_count_the_tokens_at_each_position() -> None:
    """Most frequent first; positions outside a window, and tokens that are not included, are not
    counted."""
    by_offset = {column.offset: column.tokens for column in columns(WINDOWS)}
    assert list(by_offset) == list(range(-BEFORE, AFTER + 1))
    assert by_offset[0] == [("def", 3)]
    assert by_offset[-1] == [("x", 1), ("y", 1)]
    assert by_offset[1] == [(" f", 1), (" g", 1)]
    assert by_offset[2] == [("(", 1)]
    assert by_offset[-2] == by_offset[3] == []


def test_a_block_is_as_high_as_its_token_is_frequent() -> None:
    """The peak's column is full, its token is written in it, and everything is said in words."""
    drawn = logo(columns(WINDOWS), 3)
    root = elements(drawn)
    (svg,) = root.all("svg", "logo")
    assert "Peak: def 3." in svg.attributes["aria-label"]
    (peak,) = root.all("svg", "peak")
    heights = [float(rect.attributes["height"]) for rect in peak.all("rect")]
    assert heights == [111.0]
    assert "def: 3 of 3" in peak.text


def test_tokens_that_occur_once_share_a_block() -> None:
    """It is as high as they are together, and names them all; a single one is named alone."""
    drawn = elements(logo(columns([*WINDOWS, (["def", " f"], 0, 0)]), 4))
    before, after = (drawn.all("svg", "near")[at] for at in (1, 2))
    assert "once each: x, y" in before.text
    assert [rect.attributes["height"] for rect in before.all("rect")] == ["55.0"]
    assert "␣f: 2 of 4" in after.text
    assert "␣g: 1 of 4" in after.text


def test_nothing_is_drawn_where_nothing_repeats() -> None:
    """A logo of tokens that occur once each would say nothing."""
    assert logo(columns([(["a", "b"], 0, 0), (["c", "d"], 0, 0)]), 2) == ""
    assert logo(columns([]), 0) == ""


def test_a_text_wider_than_its_column_begins_at_its_left() -> None:
    """Seven characters are too many for a phone, twelve for any screen."""
    windows = [([" it", " notable", "circumstances"], at, 0) for at in (0, 1, 2)] * 2
    drawn = elements(logo(columns(windows), 6))
    (peak,) = drawn.all("svg", "peak")
    texts = {text.text: text.attributes.get("class") for text in peak.all("text")}
    assert texts["␣it"] is None
    assert texts["␣notable"] == "long"
    assert texts["-circumstances"] == "longest"


def test_runs_of_spaces_are_counted() -> None:
    """A line break and fifteen spaces take five characters; words stay as they are."""
    assert short("\n" + " " * 15) == "↵␣×15"
    assert short(" the") == "␣the"
    assert short("  x") == "␣␣x"


def test_hostile_tokens_are_only_text() -> None:
    """Markup is escaped, invisible characters are spelled out, and long tokens are cut."""
    tokens = ["<script>alert(1)</script>", '"\u202e', "W" * 5000]
    drawn = logo(columns([(tokens, 1, 0)] * 2), 2)
    assert "<script" not in drawn
    assert "\u202e" not in drawn
    assert not re.search("W{41}", drawn)
    assert len(elements(drawn).all("svg", "logo")) == 1
