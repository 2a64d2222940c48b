"""Tokens become spans: every colour step, hostile text, every way to split a character."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app import highlight
from app.highlight import Piece
from tests.sample_pages import HOSTILE

ALLOWED = re.compile(
    r'</?i>|</(?:span|mark)>|<(?:span|mark)(?: class="[a-z0-9 ]+")? title="[^"<>]*">'
)
tokens = st.text(st.characters(), max_size=12) | st.sampled_from(HOSTILE)
activations = st.none() | st.floats(-10, 10, width=32)


def plain(markup: str) -> str:
    """What is left when tags are gone: it must hold no bare `<`, `>` or `"`."""
    return ALLOWED.sub("", markup)


def cut(values: list[str], numbers: list[float | None] | None = None) -> list[Piece]:
    """Pieces of tokens whose ids count from 100 and whose activations are 0 unless given."""
    ids = list(range(100, 100 + len(values)))
    return highlight.pieces(values, ids, numbers or [0.0] * len(values), start=0, scale=10)


@settings(deadline=None)
@given(tokens, st.booleans())
def test_visible_leaves_no_markup_and_no_unseen_character(text: str, breaks: bool) -> None:
    """Whatever the text, only `<i>` is a tag, and no character acts on what is beside it."""
    shown = str(highlight.visible(text, breaks=breaks))
    rest = re.sub(r"</?i>", "", shown)
    assert not set("<>\"'") & set(rest)
    assert re.fullmatch(r"(?:[^&]|&(?:amp|lt|gt|#34|#39);)*", rest, re.DOTALL)
    unseen = {c for c in rest if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}}
    assert unseen <= ({"\n", "\t"} if breaks else set())
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
    """In a line, and in a block where lines are broken."""
    assert highlight.visible(text) == line
    assert highlight.visible(text, breaks=True) == block


def test_marks_do_not_pile_up() -> None:
    """Combining marks past the fourth get a base of their own."""
    assert highlight.visible("a" + "\u0301" * 6) == "a" + "\u0301" * 4 + "◌" + "\u0301" * 2


def test_plain_ranges_hold_nothing_special() -> None:
    """The characters passed on untouched include no mark, control or format character."""
    for code in range(0x110000):
        if not highlight._OTHERS.fullmatch(chr(code)):
            category = unicodedata.category(chr(code))
            assert category[0] != "M"
            assert category not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" the", "<i>␣</i>the"),
        ("a ", "a<i>␣</i>"),
        ("  ", "<i>␣</i><i>␣</i>"),
        ("", "<i>∅</i>"),
        ("<b>", "&lt;b&gt;"),
        ("x" * 81, "x" * 80 + "<i>…</i>"),
    ],
)
def test_chip(token: str, shown: str) -> None:
    """A token on its own shows its outer spaces, and is cut when very long."""
    assert highlight.chip(token) == shown


@settings(deadline=None)
@given(activations, st.floats(0, 10, width=32))
def test_step_is_a_rounded_tenth_of_the_scale(value: float | None, scale: float) -> None:
    """Sign gives the letter, magnitude the number; nothing where there is no activation."""
    css = highlight.step(value, scale)
    if value is None:
        assert css == highlight.NOT_INCLUDED
    elif scale == 0 or abs(value) / scale * 10 < 0.5:
        assert css == ""
    else:
        assert css[0] == ("p" if value > 0 else "n")
        assert int(css[1:]) == min(10, int(abs(value) / scale * 10 + 0.5))


def test_step_is_the_same_on_both_sides_and_at_the_ends() -> None:
    """Zero has no colour, the scale itself has the last."""
    assert [highlight.step(v, 2.0) for v in (-2, -0.2, -0.09, 0, 0.09, 0.2, 2, 99)] == [
        "n10", "n1", "", "", "", "p1", "p10", "p10",
    ]  # fmt: skip
    assert highlight.step(float("nan"), 2.0) == ""


def test_pieces_name_value_id_and_position() -> None:
    """Three digits for a token, all of them for the peak, no number where not included."""
    parts = highlight.pieces(
        ["<s>", " a", " b"], [0, 7, 8], [None, 0.123456, 4.9],
        start=5, scale=5.0, peak=2, peak_value=5.0000005,
    )  # fmt: skip
    assert [part.title for part in parts] == [
        "not included · id 0 · position 5",
        "0.123 · id 7 · position 6",
        "5.0000005 exactly · id 8 · position 7",
    ]
    assert [(part.css, part.peak) for part in parts] == [("x", False), ("", False), ("p10", True)]


def test_a_split_character_is_one_piece() -> None:
    """It is shown whole, with the strongest part's colour, and its parts named."""
    parts = cut([" a", "\\xf0\\x9f", "\\x98", "\\x80", " b"], [0, 1, -5, 2, 0])
    assert [part.text for part in parts] == [" a", "😀", " b"]
    emoji = parts[1]
    assert (emoji.first, emoji.last, emoji.value, emoji.css) == (1, 3, -5, "n5")
    assert emoji.title == (
        "3 tokens together. \\xf0\\x9f: 1.00 · id 101 · position 1; "
        "\\x98: −5.00 · id 102 · position 2; \\x80: 2.00 · id 103 · position 3"
    )


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
    """What does not make a character stays as it came."""
    assert [part.text for part in cut(given_tokens)] == shown


@settings(deadline=None)
@given(st.text(min_size=1, max_size=6), st.data())
def test_any_split_of_utf8_is_put_together(text: str, data: st.DataObject) -> None:
    """However the bytes of a text are cut into tokens, the pieces spell the text."""
    raw = text.replace("\\", "/").encode("utf-8", "replace")
    ends = sorted(data.draw(st.sets(st.integers(1, max(1, len(raw) - 1)), max_size=6)))
    bounds = [0, *(end for end in ends if end < len(raw)), len(raw)]
    made = [raw[a:b].decode("utf-8", "backslashreplace") for a, b in pairwise(bounds)]
    assert "".join(part.text for part in cut(made)) == raw.decode()


@settings(deadline=None)
@given(st.lists(st.tuples(tokens, activations), max_size=30), st.integers(-2, 32))
@example([("\\xf0", 1.0), ("\\x9f\\x98\\x80", 2.0)], 1)
def test_pieces_cover_every_token_once(
    given_tokens: list[tuple[str, float | None]], peak: int
) -> None:
    """In order, without gaps, whether merged or not; one peak, if it is there."""
    texts = [text for text, _ in given_tokens]
    parts = highlight.pieces(
        texts,
        list(range(len(texts))),
        [value for _, value in given_tokens],
        start=3,
        scale=10,
        peak=peak,
        peak_value=10.0,
    )
    for run in (parts, highlight.merged(parts)):
        assert [i for p in run for i in range(p.first, p.last + 1)] == list(
            range(3, 3 + len(texts))
        )
        assert sum(p.peak for p in run) == (0 <= peak < len(texts))
    for breaks in (False, True):
        markup = highlight.render(highlight.merged(parts), breaks=breaks)
        assert not set('<>"') & set(plain(markup))
        markup.encode()


def test_lengths_must_agree() -> None:
    """A row that does not fit together is an error, not half a line."""
    with pytest.raises(ValueError, match="differ in number"):
        highlight.pieces(["a"], [1, 2], [0.0], start=0, scale=1)


def test_merged_joins_what_is_near_zero() -> None:
    """Neighbours without colour become one, with their range; the rest stays."""
    parts = highlight.merged(cut(["a", " b", "C", "d", "\u05d0", "e"], [0.1, -0.2, 9, 0, 0, 0.3]))
    assert [part.text for part in parts] == ["a b", "C", "d", "\u05d0", "e"]
    assert parts[0].title == "−0.200 to 0.100 · positions 0 to 1"
    assert parts[2].title == "0 · id 103 · position 3"


def test_window_is_bounded_and_starts_right_at_the_peak() -> None:
    """The left ends where the peak begins; long tokens are cut on the side away from it."""
    many = ["w" * 5] * 200
    parts = highlight.pieces(
        many, [0] * 200, [0.0] * 200, start=0, scale=1, peak=100, peak_value=1.0
    )
    left, right = highlight.window(parts)
    assert right[0].peak
    assert left[-1].last == 99
    assert sum(len(part.text) for part in left) < highlight.LINE_LEFT + 5
    assert sum(len(part.text) for part in right) < highlight.LINE_RIGHT + 5
    long = highlight.pieces(
        ["a" * 500 + "z", "b" * 500], [0, 0], [0, 1], start=0, scale=1, peak=1, peak_value=1
    )
    left, right = highlight.window(long)
    assert left[0].text == "…" + "a" * 79 + "z"
    assert right[0].text == "b" * 80 + "…"
    assert highlight.window([]) == ([], [])


def test_a_very_long_token_is_cut_everywhere() -> None:
    """Ten thousand characters of one token would bury the context they are in."""
    assert len(cut(["W" * 10_000])[0].text) == highlight.TOKEN_LONGEST + 1


def test_render_marks_the_peak_beside_its_colour() -> None:
    """The peak differs by element and class, not by colour alone."""
    parts = highlight.pieces(["a", "b"], [1, 2], [0, 1], start=0, scale=1, peak=1, peak_value=1)
    assert highlight.render(parts) == (
        '<span title="0 · id 1 · position 0">a</span>'
        '<mark class="p10 k" title="1 exactly · id 2 · position 1">b</mark>'
    )


def _luminance(colour: str) -> float:
    """WCAG 2 relative luminance of `#rrggbb`."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _themes() -> dict[str, dict[str, str]]:
    css = (Path(__file__).parent.parent / "static" / "theme.css").read_text()
    light, dark = css.split("prefers-color-scheme: dark")
    found = [dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6});", part)) for part in (light, dark)]
    return {"light": found[0], "dark": found[1]}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast_at_every_step(theme: str) -> None:
    """At least 4.5 for tokens on every colour and for every colour of text on every ground."""
    colours = _themes()[theme]
    steps = [f"{sign}{i}" for sign in "pn" for i in range(1, highlight.STEPS + 1)]
    for ground in ["paper", "raised", "chip", *steps]:
        assert _contrast(colours["token"], colours[ground]) >= 4.5, ground
    for text in ("ink", "quiet", "link", "flag", "dim"):
        for ground in ("paper", "raised"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert _contrast(colours["dim"], colours["chip"]) >= 4.5
    for mark in ("focus", "bar-pos", "bar-neg"):
        assert _contrast(colours[mark], colours["paper"]) >= (3 if mark == "focus" else 2)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("sign", ["p", "n"])
def test_steps_are_even(theme: str, sign: str) -> None:
    """Lightness (CIE L*) goes from the page's ground in steps of nearly one size."""
    colours = _themes()[theme]

    def lightness(name: str) -> float:
        y = _luminance(colours[name])
        return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y

    names = ["paper", *(f"{sign}{i}" for i in range(1, highlight.STEPS + 1))]
    levels = [lightness(name) for name in names]
    moves = [b - a for a, b in pairwise(levels)]
    assert len({move > 0 for move in moves}) == 1
    assert max(map(abs, moves)) < 2.5 * min(map(abs, moves))
