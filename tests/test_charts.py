"""Charts are well-formed, bounded, without inline style, and say in words what they draw."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from app import charts

finite = st.floats(-1e6, 1e6, width=32)


@st.composite
def histograms(draw: st.DrawFn) -> tuple[list[float], list[int]]:
    """Edges in order (possibly all equal) and a count for each bin."""
    counts = draw(st.lists(st.integers(0, 10**9), min_size=1, max_size=30))
    low, width = draw(finite), draw(st.floats(0, 1e5, width=32))
    return [low + i * width for i in range(len(counts) + 1)], counts


@settings(deadline=None)
@given(histograms(), finite, finite, st.lists(finite, max_size=5))
def test_histogram_is_well_formed_and_inside_its_box(
    made: tuple[list[float], list[int]], low: float, high: float, peaks: list[float]
) -> None:
    """Whatever the numbers: valid XML, nothing outside the view box, no style attribute."""
    edges, counts = made
    quantiles = [(f"<{i}>", value) for i, value in enumerate(sorted(peaks))]
    svg = charts.histogram(edges, counts, low=low, high=high, quantiles=quantiles, ticks=peaks)
    root = ElementTree.fromstring(svg)
    assert len(root.findall("rect")) == sum(count > 0 for count in counts)
    for rect in root.findall("rect"):
        box = {name: float(rect.attrib[name]) for name in ("x", "y", "width", "height")}
        assert box["x"] >= charts.LEFT
        assert box["x"] + box["width"] <= charts.WIDTH
        assert box["y"] >= charts.TOP - 0.1
        assert box["height"] >= 0
    for element in root.iter():
        assert "style" not in element.attrib
    for number in re.findall(r"[MHV]([\d.-]+)", svg):
        assert 0 <= float(number) <= charts.WIDTH


def test_histogram_says_what_it_shows() -> None:
    """A title, a sentence, the zero line, and a title for each bar."""
    svg = charts.histogram([-1, 0, 1, 2], [10, 80, 10], low=-1, high=4, ticks=[3.5])
    root = ElementTree.fromstring(svg)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"].split() == ["histogram-t", "histogram-d"]
    assert root.findtext("desc") == (
        "100 positions from −1.00 to 2.00. The fullest of 3 bins, 0 to 1.00, holds 80.0%; "
        "those at or above 0 hold 90.0%."
    )
    assert [rect.attrib["class"] for rect in root.findall("rect")] == ["neg", "pos", "pos"]
    assert root.findall("rect")[1].findtext("title") == "0 to 1.00: 80 (80.0%)"
    assert len(root.findall("path[@class='zero']")) == 1
    assert {text.text for text in root.findall("text")} >= {"0", "−1", "4", "1", "10"}


def test_histogram_has_no_zero_line_where_zero_is_not() -> None:
    """All-negative neurons have an axis that ends below zero."""
    svg = charts.histogram([-3, -2, -1], [5, 5], low=-3, high=-1)
    assert 'class="zero"' not in svg
    assert 'class="pos"' not in svg


def test_log_scale_is_logarithmic() -> None:
    """Equal ratios of counts are equal differences of height."""
    svg = charts.histogram([0, 1, 2, 3], [10, 100, 1000], low=0, high=3)
    tops = [float(y) for y in re.findall(r'<rect[^>]* y="([\d.]+)"', svg)]
    assert tops[0] - tops[1] == pytest.approx(tops[1] - tops[2], abs=0.11)


def test_labels_are_escaped() -> None:
    """A label is text, whatever is in it."""
    svg = charts.histogram([0, 1], [1], low=0, high=1, quantiles=[("<b>", 0.5)], name='x"y')
    assert "<b>" not in svg
    assert 'id="x&#34;y-t"' in svg


@settings(deadline=None)
@given(finite, finite, st.integers(2, 10))
def test_ticks_are_few_round_and_inside(low: float, high: float, most: int) -> None:
    """At most as many as asked, evenly apart, from low to high."""
    ticks = charts.nice_ticks(low, high, most)
    assert len(ticks) <= most
    slack = abs(high - low) * 1e-6
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    if high - low > 1e-3:
        assert ticks
        digits = {f"{abs(b - a):e}"[0] for a, b in pairwise(ticks)}
        assert digits <= set("1259") or not digits  # 9: one that rounding left just below


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
    [(1, 2, "50"), (-1, 2, "50"), (3, 2, "100"), (None, 2, "0"), (1, 0, "0"), (1, 3, "33.3")],
)
def test_bar(value: float | None, largest: float, width: str) -> None:
    """A share of the box, never more; nothing where there is no value or no scale."""
    made = charts.bar(value, largest, "pos")
    assert isinstance(made, Markup)
    rect = ElementTree.fromstring(made).find("rect")
    assert rect is not None
    assert rect.attrib["width"] == width
    assert 'aria-hidden="true"' in made


def test_describe_without_positions() -> None:
    """An empty histogram says so."""
    assert charts.describe([0.0, 1.0], [0]) == "No positions were counted."
