"""Characters as markup: hostile text, invisible characters, every way to split a character."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.drawing import characters
from tests.helpers.sample_examples import HOSTILE

INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
tokens = st.text(st.characters(), max_size=12) | st.sampled_from(HOSTILE)


def joined(values: list[str]) -> list[str]:
    """Tokens, joined where together they make up a character."""
    out = []
    first = 0
    while first < len(values):
        last = characters.last_of_character(values, first)
        out.append(characters.joined(values[first : last + 1]) if last > first else values[first])
        first = last + 1
    return out


@settings(deadline=None)
@given(tokens, st.booleans())
def test_visible_leaves_no_markup_and_no_invisible_character(text: str, breaks: bool) -> None:
    """Whatever the text, `<i>` is the only tag, and no character affects its surroundings."""
    shown = str(characters.visible(text, breaks=breaks))
    rest = re.sub(r"</?i>", "", shown)
    assert not set("<>\"'") & set(rest)
    assert re.fullmatch(r"(?:[^&]|&(?:amp|lt|gt|#34|#39);)*", rest, re.DOTALL)
    invisible = {c for c in rest if unicodedata.category(c) in INVISIBLE}
    assert invisible <= ({"\n", "\t"} if breaks else set())
    shown.encode()


@pytest.mark.parametrize(
    ("text", "line", "block"),
    [
        ("a b", "a b", "a b"),
        ("  x", "  x", "  x"),
        ("\n", "<i>↵</i>", "<i>↵</i>\n"),
        ("\r\n\t", "<i>‹CR›</i><i>↵</i><i>→</i>", "<i>‹CR›</i><i>↵</i>\n<i>→</i>\t"),
        ("<b>&", "&lt;b&gt;&amp;", "&lt;b&gt;&amp;"),
        ("\u202e", "<i>‹U+202E›</i>", "<i>‹U+202E›</i>"),
        ("a\u200db", "a<i>‹U+200D›</i>b", "a<i>‹U+200D›</i>b"),
        ("\ud800", "<i>‹U+D800›</i>", "<i>‹U+D800›</i>"),
        ("\x00\x7f\x85", "<i>‹NUL›</i><i>‹DEL›</i><i>‹U+0085›</i>",
         "<i>‹NUL›</i><i>‹DEL›</i><i>‹U+0085›</i>"),
        ("é\u0301", "é\u0301", "é\u0301"),
        ("\u0301", "◌\u0301", "◌\u0301"),
        ("日本", "日本", "日本"),
        ("😀", "😀", "😀"),
        ("", "<i>∅</i>", "<i>∅</i>"),
    ],
)  # fmt: skip
def test_visible_shows(text: str, line: str, block: str) -> None:
    """In a line, and in a block with real line breaks."""
    assert characters.visible(text) == line
    assert characters.visible(text, breaks=True) == block


def test_marks_do_not_pile_up() -> None:
    """The fifth combining mark gets a base of its own."""
    assert characters.visible("a" + "\u0301" * 6) == "a" + "\u0301" * 4 + "◌" + "\u0301" * 2


def test_plain_ranges_hold_nothing_special() -> None:
    """No character that is passed on unchanged is a mark, control or format character."""
    for code in range(0x110000):
        if not characters._NOT_PLAIN.fullmatch(chr(code)):
            category = unicodedata.category(chr(code))
            assert category[0] != "M"
            assert category not in INVISIBLE


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" the", "<i>␣</i>the"),
        ("A ", "A<i>␣</i>"),
        ("  ", "<i>␣</i><i>␣</i>"),
        ("", "<i>∅</i>"),
        ("<b>", "&lt;b&gt;"),
        ("X" * 81, "X" * 80 + "<i>…</i>"),
        ("ing", f"{characters.PIECE}ing"),
        ("ность", f"{characters.PIECE}ность"),
        ("ות", f"{characters.PIECE}ות"),
        ("The", "The"),
        (".x", ".x"),
        ("12", "12"),
        ("猫", "猫"),
        ("แมว", "แมว"),
    ],
)
def test_chip(token: str, shown: str) -> None:
    """A chip shows its outer spaces, and is cut if very long. What goes on a word is marked: not a
    capital, a sign or a figure, nor anything of a script without spaces."""
    assert characters.chip(token) == shown


def test_a_chip_of_a_text_is_marked_inside_words() -> None:
    """In a text the token before says whether a word goes on."""
    text = ["the", " walk", "ing", "(", "x", "\n", "def"]
    marked = [characters.PIECE in characters.chip_in_text(text, at) for at in range(len(text))]
    assert marked == [False, False, True, False, False, False, False]


@settings(deadline=None)
@given(tokens)
@example("\u202e\u2066")
@example("\ud800\x00\u0301")
def test_a_label_fits_an_attribute(text: str) -> None:
    """No quote, bracket or invisible character that could end the attribute or reorder text."""
    shown = characters.label(text)
    assert not set("<>\"'") & set(shown)
    assert not {c for c in shown if unicodedata.category(c) in INVISIBLE}
    assert re.fullmatch(r"(?:[^&]|&(?:amp|lt|gt|#34|#39);)+", shown, re.DOTALL)
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" king", "␣king"),
        ("  a ", "␣␣a␣"),
        ("  ", "␣␣"),
        ("", "∅"),
        ("\n", "↵"),
        ("a\tb", "a→b"),
        ('"<&>', "&#34;&lt;&amp;&gt;"),
        ("\u200d", "‹U+200D›"),
    ],
)
def test_label(text: str, shown: str) -> None:
    """Outer spaces and line breaks are visible, as in a chip."""
    assert characters.label(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" a ", "<i>␣</i>a "),
        ("a ", "a "),
        ("  ", "<i>␣</i><i>␣</i>"),
        ("a", "a"),
        ("", "<i>∅</i>"),
        (" <b>", "<i>␣</i>&lt;b&gt;"),
    ],
)
def test_leading_spaces(text: str, shown: str) -> None:
    """A peak shows its leading spaces, not its trailing ones."""
    assert characters.spaced(text, trailing=False) == shown


@pytest.mark.parametrize(
    ("given_tokens", "shown"),
    [
        (["\\xe2\\x80", "\\x9cHi"], ["“Hi"]),
        (["x\\xe2\\x80", "\\x9c\\xe2", "\\x80\\x9d"], ["x“”"]),
        (["\\xc3", "\\xa9"], ["é"]),
        (["\\xf0\\x9f", " a"], ["\\xf0\\x9f", " a"]),
        (["\\xf0\\x9f"], ["\\xf0\\x9f"]),
        (["\\x80", "\\x80"], ["\\x80", "\\x80"]),
        (["\\xff", "\\x80"], ["\\xff", "\\x80"]),
        (["\\xe0", "\\x80", "\\x80"], ["\\xe0", "\\x80", "\\x80"]),
        (["\\xed\\xa0", "\\x80"], ["\\xed\\xa0", "\\x80"]),
        (["\\xe2", "\\x80a", "\\x9c"], ["\\xe2", "\\x80a", "\\x9c"]),
    ],
)
def test_bytes_join_only_into_whole_characters(given_tokens: list[str], shown: list[str]) -> None:
    """Bytes that do not make up a character stay as they are."""
    assert joined(given_tokens) == shown


@settings(deadline=None)
@given(st.text(min_size=1, max_size=6), st.data())
def test_any_split_of_utf8_is_joined(text: str, data: st.DataObject) -> None:
    """However the bytes of a text are split into tokens, the joined tokens spell the text."""
    raw = text.replace("\\", "/").encode("utf-8", "replace")
    ends = sorted(data.draw(st.sets(st.integers(1, max(1, len(raw) - 1)), max_size=6)))
    bounds = [0, *(end for end in ends if end < len(raw)), len(raw)]
    parts = [raw[a:b].decode("utf-8", "backslashreplace") for a, b in pairwise(bounds)]
    assert "".join(joined(parts)) == raw.decode()
