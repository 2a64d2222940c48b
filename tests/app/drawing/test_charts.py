"""Charts are well-formed, bounded, without inline styles, and described in words."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from app.drawing import charts
from app.drawing.charts import Cut, Part

finite = st.floats(-1e6, 1e6, width=32)


@st.composite
def histograms(draw: st.DrawFn) -> tuple[list[float], list[int]]:
    """Ascending edges (possibly all equal) and a count for each bin."""
    counts = draw(st.lists(st.integers(0, 10**9), min_size=1, max_size=30))
    low, width = draw(finite), draw(st.floats(0, 1e5, width=32))
    return [low + i * width for i in range(len(counts) + 1)], counts


def drawn(
    edges: list[float], counts: list[int], low: float, high: float, **options: Any
) -> ElementTree.Element:
    """A histogram, parsed as XML."""
    names = {"name": "h", "title": "A title", "what": "positions", "axis": "activation"} | options
    return ElementTree.fromstring(charts.histogram(edges, counts, low=low, high=high, **names))


def tops(svg: ElementTree.Element, css: str = "pos") -> list[float]:
    """The y of the bars' tops, for one sign."""
    (shape,) = svg.findall(f"path[@class='{css}']")
    return [float(y) for y in re.findall(r"V([\d.]+)h", shape.attrib["d"])]


@settings(deadline=None)
@given(histograms(), finite, finite, st.lists(finite, max_size=5), st.booleans())
def test_histogram_is_well_formed_and_inside_its_box(
    made: tuple[list[float], list[int]], low: float, high: float, values: list[float], log: bool
) -> None:
    """Whatever the numbers: valid XML, nothing outside the view box, no style attribute."""
    edges, counts = made
    cuts = [Cut(value, f"<{i}>", "&") for i, value in enumerate(sorted(values))]
    svg = drawn(edges, counts, low, high, cuts=cuts, ticks=values, log=log)
    bars = sum(
        len(tops(svg, css)) for css in ("neg", "pos") if svg.findall(f"path[@class='{css}']")
    )
    assert bars == sum(count > 0 for count in counts)
    left, wide, top, foot = map(float, svg.attrib["data-bins"].split())
    assert left >= charts.LEFT
    assert left + wide * len(counts) <= charts.WIDTH - charts.RIGHT + 0.1
    assert 0 <= top <= foot <= 130
    for rect in svg.iter("rect"):
        box = {name: float(rect.attrib[name]) for name in ("x", "y", "width", "height")}
        assert box["x"] >= charts.LEFT
        assert box["x"] + box["width"] <= charts.WIDTH
        assert 0 <= box["y"] <= box["y"] + box["height"] <= 130
    for element in svg.iter():
        assert "style" not in element.attrib
        for number in re.findall(r"[MHVh](-?[\d.]+)", element.attrib.get("d", "")):
            assert 0 <= float(number) <= charts.WIDTH


def test_histogram_has_a_description() -> None:
    """A title, a sentence and the zero line."""
    svg = drawn([-1, 0, 1, 2], [10, 80, 10], -1, 4, ticks=[3.5], ticks_title="the top one")
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-labelledby"].split() == ["h-t", "h-d"]
    assert svg.findtext("title") == "A title"
    assert svg.findtext("desc") == (
        "100 positions from −1.00 to 2.00. The fullest of 3 bins, 0 to 1.00, holds 80.0%; "
        "those at or above 0 hold 90.0%."
    )
    assert [len(tops(svg, css)) for css in ("neg", "pos")] == [1, 2]
    assert len(svg.findall("path[@class='zero']")) == 1
    assert svg.findtext("path[@class='tops']/title") == "the top one"
    assert {text.text for text in svg.findall("text")} >= {"0", "−1", "4", "1", "10"}


def test_bins_in_words() -> None:
    """Range, count and share of each bin, also of empty ones; charts.js finds them by their id."""
    made = charts.bins([-1, 0, 1, 2], [10, 0, 1_999_990], name="h")
    bins = ElementTree.fromstring(made)
    assert bins.attrib["id"] == "h-bins"
    assert [item.text for item in bins.findall("li")] == [
        "−1.00 to 0: 10 (<0.001%)", "0 to 1.00: 0 (0%)", "1.00 to 2.00: 1,999,990 (>99.9%)",
    ]  # fmt: skip
    (empty,) = ElementTree.fromstring(charts.bins([0, 1], [0], name="h")).findall("li")
    assert empty.text == "0 to 1.00: 0 (0%)"


def test_a_chart_gives_the_places_of_its_bins() -> None:
    """The left edge of the first and the width of each, also if the axis is longer."""
    svg = drawn([0, 1, 2], [5, 5], -1, 3)
    left, wide, top, foot = map(float, svg.attrib["data-bins"].split())
    unit = (charts.WIDTH - charts.LEFT - charts.RIGHT) / 4
    assert left == pytest.approx(charts.LEFT + unit, abs=0.1)
    assert wide == pytest.approx(unit, abs=0.01)
    assert (top, foot) == (charts.TOP, 130 - charts.BOTTOM)


def test_bars_in_layers() -> None:
    """Each part lies on those before it, all together as high as the bar; its colour is named."""
    parts = [Part("<a>", [1, 0, 2]), Part("b", [3, 0, 2]), Part("c", [0, 0, 0])]
    svg = drawn([0, 1, 2, 3], [4, 0, 4], 0, 3, log=False, parts=parts)
    first, second = (svg.find(f"path[@class='part l{index}']") for index in range(2))
    assert first is not None
    assert second is not None
    assert svg.find("path[@class='part l2']") is None, "it has no bar"
    bars = [
        [tuple(map(float, bar)) for bar in re.findall(r" ([\d.]+)V([\d.]+)h", part.attrib["d"])]
        for part in (first, second)
    ]
    floor, top = 130 - charts.BOTTOM, charts.TOP
    middle = [floor - (floor - top) / 4, floor - (floor - top) / 2]
    assert bars == [
        [(floor, middle[0]), (floor, middle[1])],
        [(middle[0], top), (middle[1], top)],
    ]
    named = ElementTree.fromstring(charts.keys(parts))
    assert ["".join(item.itertext()) for item in named.findall("li")] == ["<a>", "b", "c"]


def test_axes_have_titles_and_labels_stay_above_the_bars() -> None:
    """What is counted, on which scale, of what; labels of cuts have a row of their own."""
    svg = drawn([0, 1], [9], 0, 1, axis="peak", cuts=[Cut(0.5, "top 50%", "")])
    words = {text.text: float(text.attrib["y"]) for text in svg.findall("text")}
    assert {"↑ positions, log scale", "peak →"} <= words.keys()
    assert words["↑ positions, log scale"] + 10 < words["top 50%"] < min(tops(svg))


def test_histogram_without_zero_has_no_zero_line() -> None:
    """The axis of a neuron that is always negative ends below zero."""
    svg = drawn([-3, -2, -1], [5, 5], -3, -1)
    assert not svg.findall("path[@class='zero']")
    assert not svg.findall("path[@class='pos']")


def test_log_scale_is_logarithmic() -> None:
    """Equal ratios of counts are equal differences of height."""
    y = tops(drawn([0, 1, 2, 3], [10, 100, 1000], 0, 3))
    assert y[0] - y[1] == pytest.approx(y[1] - y[2], abs=0.11)


def test_linear_scale_is_linear_but_shows_the_least() -> None:
    """Heights are proportional to counts, but a single context is still visible."""
    svg = drawn([0, 1, 2, 3], [1, 500, 1000], 0, 3, log=False)
    floor = 130 - charts.BOTTOM
    heights = [floor - top for top in tops(svg)]
    assert heights[1] == pytest.approx(heights[2] / 2, abs=0.11)
    assert heights[0] == 1.5


def test_one_axis_for_two_charts() -> None:
    """Charts with the same ends have the same ticks at the same places."""
    first, second = drawn([0, 1, 2], [1, 1], -1, 4), drawn([3, 3.5], [1], -1, 4)

    def labels(svg: ElementTree.Element) -> dict[str | None, str]:
        texts = svg.findall("text")
        return {text.text: text.attrib["x"] for text in texts if text.attrib["y"] == "112.0"}

    assert labels(first) == labels(second)
    assert len(labels(first)) >= 4


def test_bands_begin_at_their_cuts() -> None:
    """A darker background from each cut to the next, the last to the end; labels if they fit."""
    cuts = [Cut(1.0, "top 50%", "one"), Cut(2.0, "top 10%", "two"), Cut(2.01, "top 1%", "three")]
    svg = drawn([0, 4], [9], 0, 4, cuts=cuts)
    bands = svg.findall("rect")
    assert [band.attrib["class"] for band in bands] == ["band b0", "band b1", "band b2"]
    assert [band.findtext("title") for band in bands] == ["one", "two", "three"]
    ends = [float(band.attrib["x"]) + float(band.attrib["width"]) for band in bands]
    starts = [float(band.attrib["x"]) for band in bands]
    assert ends[:2] == pytest.approx(starts[1:], abs=0.11)
    assert ends[2] == charts.WIDTH - charts.RIGHT
    shown = [text.text for text in svg.findall("text")]
    assert "top 50%" in shown
    assert "top 1%" in shown
    assert "top 10%" not in shown, "it would overlap the next"


def test_the_highest_band_always_has_a_label() -> None:
    """Without room after its line, the label is before it, flush with the end."""
    cuts = [Cut(1.0, "top 50%", ""), Cut(2.5, "top 10%", ""), Cut(3.95, "top 1%", "")]
    labels = {
        text.text: text.attrib for text in drawn([0, 4], [9], 0, 4, cuts=cuts).findall("text")
    }
    assert labels["top 1%"]["text-anchor"] == "end"
    assert float(labels["top 1%"]["x"]) == charts.WIDTH - charts.RIGHT
    assert {"top 50%", "top 10%"} <= labels.keys()


def test_labels_are_escaped() -> None:
    """Labels are text, whatever they contain."""
    svg = charts.histogram([0, 1], [1], low=0, high=1, cuts=[Cut(0.5, "<b>", "<i>")], name='x"y',
                           title="<u>", what="&", axis="<s>")  # fmt: skip
    assert not set(re.findall(r"<(\w+)", svg)) & {"b", "i", "u", "s"}
    assert 'id="x&#34;y-t"' in svg


@pytest.mark.parametrize(
    ("value", "tick", "rect", "mark"),
    [
        (3.0, 1.0, ("25.0", "75.0"), "M50.0"),
        (-1.0, None, ("0.0", "25.0"), None),
        (0.0, 3.0, ("25.0", "0.0"), "M100.0"),
        (9.0, -9.0, ("25.0", "75.0"), "M0.0"),
    ],
)
def test_bullet(value: float, tick: float | None, rect: tuple[str, str], mark: str | None) -> None:
    """A bar from zero to the value on an axis from −1 to 3, with a tick."""
    svg = ElementTree.fromstring(charts.bullet(value, tick, low=-1.0, high=3.0))
    box = svg.find("rect")
    assert box is not None
    assert (box.attrib["x"], box.attrib["width"]) == rect
    path = svg.find("path")
    assert (None if path is None else path.attrib["d"].split()[0]) == mark
    assert "neg" in svg.attrib["class"] if value < 0 else "pos" in svg.attrib["class"]


def test_bullet_without_an_axis() -> None:
    """If everything is zero, nothing is divided by zero."""
    assert 'width="0.0"' in charts.bullet(0.0, 0.0, low=0.0, high=0.0)


@settings(deadline=None)
@given(finite, finite, st.integers(2, 10))
@example(0.0, 5e-324, 4)
def test_ticks_are_few_round_and_inside(low: float, high: float, most: int) -> None:
    """At most `most` ticks, evenly spaced, from low to high."""
    ticks = charts.nice_ticks(low, high, most)
    assert len(ticks) <= most
    slack = abs(high - low) * 1e-6
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    if high - low > 1e-3:
        assert ticks
        digits = {f"{abs(b - a):e}"[0] for a, b in pairwise(ticks)}
        assert digits <= set("1259") or not digits  # 9: just below, by rounding


@pytest.mark.parametrize(
    ("largest", "ticks"),
    [
        (0, [1]),
        (7, [1]),
        (90, [1, 10]),
        (129_321, [1, 100, 10_000]),
        (10**9, [1, 1000, 10**6, 10**9]),
    ],
)
def test_count_ticks(largest: int, ticks: list[int]) -> None:
    """Powers of ten, at most four."""
    assert charts.count_ticks(largest) == ticks


@pytest.mark.parametrize(
    ("value", "largest", "width"),
    [(1, 2, "50"), (-1, 2, "50"), (3, 2, "100"), (None, 2, "0"), (1, 0, "0"), (1, 3, "33")],
)
def test_bar(value: float | None, largest: float, width: str) -> None:
    """A share of the box, never more; nothing without a value or a scale."""
    made = charts.bar(value, largest, "pos")
    assert isinstance(made, Markup)
    rect = ElementTree.fromstring(made).find("rect")
    assert rect is not None
    assert rect.attrib["width"] == width
    assert 'aria-hidden="true"' in made


def test_describe_without_positions() -> None:
    """An empty histogram says so."""
    assert charts.describe([0.0, 1.0], [0], "peaks") == "No peaks were counted."
