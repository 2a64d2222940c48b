"""Tokens as spans: colour steps, titles, hostile text, split characters."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.drawing import tokens as highlight
from app.drawing.numbers import number
from app.drawing.palette import NOT_INCLUDED, Palette, palette, step
from app.drawing.tokens import Row
from tests.helpers.sample_examples import HOSTILE

SPAN = re.compile(
    r'<(span|mark)(?: class="([a-z0-9 ]+)")? title="([^"<>]*)"(?: dir="ltr")?>(.*?)</\1>', re.DOTALL
)
ALLOWED = re.compile(
    r'</?i>|</(?:span|mark)>|<(?:span|mark)(?: class="[a-z0-9 ]+")? title="[^"<>]*"(?: dir="ltr")?>'
)
tokens = st.text(st.characters(), max_size=12) | st.sampled_from(HOSTILE)
activations = st.none() | st.floats(-10, 10, width=32)
COLOURS = palette(10.0, low=-5.0, high=10.0)


def around(
    tokens: Sequence[str],
    token_ids: Sequence[int],
    activations: Sequence[float | None],
    *,
    start: int,
    colours: Palette,
    centre: int | None = None,
    value: float = 0.0,
    breaks: bool = False,
) -> tuple[str, str]:
    """The two parts of a single row: before its mark, and the rest."""
    row = Row(tokens, token_ids, activations, start, centre, value)
    ((left, right),) = highlight.spans([row], colours, breaks=breaks)
    return left, right


def plain(markup: str) -> str:
    """Markup without its tags: it must hold no bare `<`, `>` or `"`."""
    return ALLOWED.sub("", markup)


def spans(
    values: list[str], numbers: list[float | None] | None = None, centre: int | None = None
) -> list[tuple[str, str, str]]:
    """(class, title, text) of the span of each token. Ids count from 100; activations are 0 unless
    given."""
    numbers = numbers or [0.0] * len(values)
    ids = list(range(100, 100 + len(values)))
    exactly = 0.0 if centre is None or not 0 <= centre < len(values) else numbers[centre]
    left, right = around(
        values, ids, numbers, start=0, colours=COLOURS, centre=centre, value=exactly or 0.0
    )
    return [(match[2] or "", match[3], match[4]) for match in SPAN.finditer(left + right)]


@settings(deadline=None)
@given(activations, st.floats(0, 10, width=32))
def test_step_is_a_rounded_tenth_of_the_scale(value: float | None, scale: float) -> None:
    """The sign gives the letter, the magnitude the number; near zero there is no class."""
    css = step(value, scale)
    if value is None:
        assert css == NOT_INCLUDED
    elif scale == 0 or abs(value) / scale * 10 < 0.5:
        assert css == ""
    else:
        assert css[0] == ("p" if value > 0 else "n")
        assert int(css[1:]) == min(10, int(abs(value) / scale * 10 + 0.5))


def test_step_is_the_same_on_both_sides_and_at_the_ends() -> None:
    """Zero has no colour, and the scale itself has the last."""
    assert [step(v, 2.0) for v in (-2, -0.2, -0.09, 0, 0.09, 0.2, 2, 99)] == [
        "n10", "n1", "", "", "", "p1", "p10", "p10",
    ]  # fmt: skip
    assert step(float("nan"), 2.0) == ""


@settings(deadline=None)
@given(st.floats(-10, 10, width=32))
def test_a_span_has_the_colour_of_its_step(value: float) -> None:
    """The lookup in tables gives the same class as `step`, up to rounding."""
    ((css, _, _),) = spans(["a"], [value])
    near = {step(value * (1 + change), 10.0) for change in (-1e-6, 0, 1e-6)}
    assert css in near


@settings(deadline=None)
@given(st.floats(-5, 10, width=32) | st.sampled_from([9.995, 0.09995, 1e-4, 9.9e-5, -1e-30, 0.0]))
def test_a_title_has_value_and_share(value: float) -> None:
    """Three digits, and whole percents of the maximum or, below zero, of the minimum."""
    ((_, title, _),) = spans(["a"], [value])
    digits, share, position, token = title.split(", ")
    parsed = float(digits.replace("−", "-"))
    assert parsed == pytest.approx(value, rel=0.0051, abs=1e-44)
    if "e" not in digits and parsed:
        assert len(re.sub("[−.]", "", digits).lstrip("0")) == 3
    percent, end = share.split("% of ")
    assert end == ("min" if value < 0 else "max")
    assert abs(int(percent) - 100 * value / (-5 if value < 0 else 10)) <= 0.51
    assert (position, token) == ("at 0", "id 100")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0, 0% of max"),
        (123.4, "123, 100% of max"),
        (-1e-6, f"{number(-1e-6)}, 0% of min"),
        (float("inf"), "inf, 0% of max"),
        (float("nan"), "not stored"),
        (None, "not included"),
    ],
)
def test_rare_values(value: float | None, words: str) -> None:
    """Zero, tiny and large numbers, infinities, NaN and None are named too."""
    ((css, title, _),) = spans(["a"], [value])
    assert title == f"{words}, at 0, id 100"
    assert css == ("x" if value is None else "p10" if value == 123.4 else "")


def test_a_neuron_without_a_range_has_no_shares() -> None:
    """If all activations are zero, or none is above it, nothing is divided by zero."""
    flat = palette(0.0, low=0.0, high=0.0)
    left, right = around(["a"], [1], [0.0], start=0, colours=flat)
    assert left + right == '<span title="0, 0% of max, at 0, id 1">a</span>'
    below = palette(3.0, low=-3.0, high=-0.125)
    _, right = around(["a"], [1], [-1.5], start=4, colours=below)
    assert right == ('<span class="n5" title="−1.50, 50% of min, at 4, id 1">a</span>')


def test_titles_name_value_share_position_and_id() -> None:
    """Three digits for a token, all digits for the peak, none for a position not included."""
    left, right = around(
        ["<s>", " a", " b"], [0, 7, 8], [None, 0.123456, 4.9],
        start=5, colours=palette(5.0, low=-1.0, high=5.0), centre=2, value=4.8765432,
    )  # fmt: skip
    assert left == (
        '<span class="x" title="not included, at 5, id 0">&lt;s&gt;</span>'
        '<span title="0.123, 2% of max, at 6, id 7"> a</span>'
    )
    assert right == (
        '<mark class="p10 k" title="4.876543 exactly, 98% of max, at 7, id 8"><i>␣</i>b</mark>'
    )


def test_without_a_centre_everything_is_in_the_second_part() -> None:
    """Also if the centre is out of range on either side."""
    for centre in (None, -1, -7, 2, 99):
        left, right = around(
            ["a", "b"], [1, 2], [0.0, 0.0], start=0, colours=COLOURS, centre=centre, value=3.0
        )
        assert left == ""
        assert plain(right) == "ab"
        assert "<mark" not in right


def test_a_split_character_is_one_span() -> None:
    """With the colour of the strongest token; the title lists all of its tokens."""
    made = spans([" a", "\\xf0\\x9f", "\\x98", "\\x80", " b"], [0, 1, -5, 2, 0])
    assert [text for _, _, text in made] == [" a", "😀", " b"]
    assert made[1][0] == "n5"
    assert made[1][1] == (
        "3 tokens together, 1.00, 10% of max, at 1, id 101: \\xf0\\x9f; "
        "−5.00, 100% of min, at 2, id 102: \\x98; 2.00, 20% of max, at 3, "
        "id 103: \\x80"
    )


@pytest.mark.parametrize("centre", [1, 2, 3])
def test_a_split_character_can_be_the_peak(centre: int) -> None:
    """Whichever of its tokens is the peak, the mark is the character."""
    values: list[float | None] = [0, 1, 2, 3, 0]
    left, right = around(
        [" a", "\\xf0\\x9f", "\\x98", "\\x80", " b"], [1, 2, 3, 4, 5], values,
        start=0, colours=COLOURS, centre=centre, value=9.5,
    )  # fmt: skip
    assert plain(left) == " a"
    assert right.startswith('<mark class="p10 k"')
    assert "9.5 exactly" in right
    assert plain(right) == "😀 b"


def test_a_single_byte_can_be_the_peak() -> None:
    """A byte that is no character is a mark by itself."""
    left, right = around(
        ["a", "\\xff"], [1, 2], [0.0, 5.0], start=0, colours=COLOURS, centre=1, value=5.0
    )
    assert (plain(left), plain(right)) == ("a", "\\xff")
    assert right.startswith('<mark class="p5 k"')


@settings(deadline=None)
@given(st.lists(st.tuples(tokens, activations), max_size=30), st.integers(-2, 32), st.booleans())
@example([("\\xf0", 1.0), ("\\x9f\\x98\\x80", 2.0)], 1, False)
def test_every_token_is_covered_once(
    given_tokens: list[tuple[str, float | None]], centre: int, breaks: bool
) -> None:
    """In order, without gaps; a mark if there is a centre; and no other markup."""
    texts = [text for text, _ in given_tokens]
    left, right = around(
        texts,
        list(range(len(texts))),
        [value for _, value in given_tokens],
        start=3,
        colours=COLOURS,
        centre=centre,
        value=10.0,
        breaks=breaks,
    )
    markup = left + right
    assert not set('<>"') & set(plain(markup))
    markup.encode()
    titles = [match[3] for match in SPAN.finditer(markup)]
    positions = [int(at) for title in titles for at in re.findall(r", at (\d+), id ", title)]
    assert sorted(set(positions)) == list(range(3, 3 + len(texts)))
    assert markup.count("<mark ") == (0 <= centre < len(texts))
    if left:
        assert right.startswith("<mark ")
    for title in titles:
        assert not set("\u202e\u200b\u200d\u2066\ufeff\x00\n\t") & set(title)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.tuples(tokens, activations), max_size=8), st.integers(-1, 9)),
        max_size=5,
    )
)
def test_rows_do_not_mix(made: list[tuple[list[tuple[str, float | None]], int]]) -> None:
    """Many rows at once give the same as each alone: no character is joined across two."""
    rows = [
        Row([t for t, _ in row], list(range(len(row))), [v for _, v in row], 7 * i, centre, 2.5)
        for i, (row, centre) in enumerate(made)
    ]
    separate = [highlight.spans([row], COLOURS)[0] for row in rows]
    assert highlight.spans(rows, COLOURS) == separate


def expanded(markup: str) -> list[tuple[str, str, str]]:
    """(class, title, text) of each token of brief markup, as tokens.js reads it."""
    matches = re.findall(
        r'<(?:span|mark)(?: class="([a-z0-9 ]+)")? title="([^"]*)"(?: dir="ltr")?>(.*?)'
        r"</(?:span|mark)>"
        r'|<!--(.*?)-->(<span dir="ltr">.*?</span>|(?:[^<]|</?i>)*)',
        markup,
        re.DOTALL,
    )
    return [
        (css, title or comment, text or re.sub('<span dir="ltr">|</span>', "", body))
        for css, title, text, comment, body in matches
    ]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(), max_size=12).filter(lambda text: "\\x" not in text)
            | st.sampled_from(["א", "ب ", "<b>", "-->", "<!--", "\n", ""]),
            st.none() | st.floats(-5, 10, width=32) | st.just(float("nan")),
        ),
        max_size=20,
    ),
    st.integers(-1, 20),
    st.booleans(),
)
def test_brief_markup_has_the_same_content(
    given_tokens: list[tuple[str, float | None]], centre: int, breaks: bool
) -> None:
    """Every token once with colour, text, value and id; only the mark has its full title."""
    row = Row(
        [text for text, _ in given_tokens], list(range(len(given_tokens))),
        [value for _, value in given_tokens], 3, centre, 2.5,
    )  # fmt: skip
    ((left, right),) = highlight.spans([row], COLOURS, breaks=breaks, brief=True)
    ((full_left, full_right),) = highlight.spans([row], COLOURS, breaks=breaks)
    for brief, full, marked in ((left, full_left, False), (right, full_right, True)):
        tokens_in_brief, matches = expanded(brief), [*SPAN.finditer(full)]
        assert len(tokens_in_brief) == len(matches)
        for i, ((css, title, text), match) in enumerate(zip(tokens_in_brief, matches, strict=True)):
            assert (css, text) == (match[2] or "", match[4])
            if marked and i == 0 and "k" in css.split():
                assert title == match[3]
            else:
                value, token = title.split(", ")
                assert (value, token) == (match[3].split(", ")[0], match[3].split(", ")[-1])


def test_in_brief_markup_a_token_without_colour_is_no_element() -> None:
    """A comment has its value and id; only right-to-left text has a span."""
    row = Row([" a", "א", "b", "c"], [7, 8, 9, 10], [0.01, -0.02, 5.0, None], 0)
    ((_, markup),) = highlight.spans([row], COLOURS, brief=True)
    assert markup == (
        '<!--0.0100, id 7--> a<!--−0.0200, id 8--><span dir="ltr">א</span>'
        '<span class="p5" title="5.00, id 9">b</span>'
        '<span class="x" title="not included, id 10">c</span>'
    )


def test_lengths_must_agree() -> None:
    """A row whose lists differ in length is an error."""
    with pytest.raises(ValueError, match="differ in number"):
        around(["a"], [1, 2], [0.0], start=0, colours=COLOURS)


def test_breaks_are_kept_in_running_text() -> None:
    """A line break is real in running text, and only visible in a line."""
    text = highlight.render(["a", "\n", "b"], [1, 2, 3], [0.0, 5.0, 0.0], start=0, colours=COLOURS,
                            centre=1, value=5.0)  # fmt: skip
    assert plain(text) == "a↵\nb"
    left, right = around(["a", "\n"], [1, 2], [0.0, 0.0], start=0, colours=COLOURS)
    assert plain(left + right) == "a↵"


def test_an_extent_ends_at_what_fits() -> None:
    """Characters and tokens are limited on both sides, and the centre is always included."""
    words = ["w" * 5] * 200
    first, end = highlight.extent(words, 100)
    assert 5 * (100 - first) < highlight.LINE_LEFT + 5
    assert 5 * (end - 100) < highlight.LINE_RIGHT + 5
    letters = ["a"] * 200
    assert highlight.extent(letters, 100) == (
        100 - highlight.LINE_TOKENS, 101 + highlight.LINE_TOKENS,
    )  # fmt: skip
    assert highlight.extent(["W" * 10_000], 0) == (0, 1)
    assert highlight.extent([], 0) == (0, 0)
    assert highlight.extent(words, 0)[0] == 0
    assert highlight.extent(words, 199)[1] == 200


def test_very_long_tokens_are_cut() -> None:
    """To different lengths in a line and in running text."""
    ((_, title, text),) = spans(["a" + "W" * 10_000 + "z"])
    assert len(text) == highlight.LINE_CHARACTERS + 1
    assert text[0] == "a"
    assert text[-1] == "z"
    assert len(title) < 120
    block = highlight.render(["W" * 10_000], [1], [0.0], start=0, colours=COLOURS)
    assert plain(block).count("W") == highlight.BLOCK_CHARACTERS


def test_right_to_left_text_has_its_own_direction() -> None:
    """With a colour, as the mark, and joined from bytes; other text has no attribute."""
    hebrew, parts = "שלום", ["\\xd7", "\\x90"]
    row = Row([" a", hebrew, *parts, hebrew, "b", *parts], list(range(8)), [3.0] * 8, 0, 4, 9.0)
    ((left, right),) = highlight.spans([row], COLOURS, brief=True)
    directed = re.findall(r'<(span|mark) [^>]*dir="ltr">([^<]*)<', left + right)
    assert directed == [("span", hebrew), ("span", "א"), ("mark", hebrew), ("span", "א")]
    assert (left + right).count("dir=") == 4
