"""Strips of layers: on one axis, at places worked out by hand, and described in words."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.drawing.strips import HEIGHT, WIDTH, Axis, axis_for, describe, scale, strip

LINE = [float(value) for value in range(21)]
"""Quantiles of neurons spread evenly from 0 to 20."""

lists = st.lists(st.floats(-1e6, 1e6), min_size=21, max_size=21).map(sorted)


def words(value: float) -> str:
    return f"<{value:g}>"


def test_a_strip_is_where_its_quantiles_are() -> None:
    """On an axis from 0 to 20, 200 wide with margins of 4: 9.6 units per value."""
    axis = axis_for([LINE, [value / 2 for value in LINE]])
    assert axis == Axis(0.0, 20.0, False)
    root = ElementTree.fromstring(strip(LINE, axis, words))
    boxes = {
        rect.attrib["class"]: (float(rect.attrib["x"]), float(rect.attrib["width"]))
        for rect in root.findall("rect")
    }
    assert boxes == {"all": (4.0, 192.0), "most": (13.6, 172.8), "half": (52.0, 96.0)}
    assert root.find("path[@class='median']").attrib["d"].startswith("M100.0 ")
    half = ElementTree.fromstring(strip([value / 2 for value in LINE], axis, words))
    assert half.find("rect[@class='all']").attrib["width"] == "96.0"


def test_a_far_tail_makes_the_axis_logarithmic() -> None:
    """If a neuron has a thousand times the median, equal ratios become equal distances."""
    tail = [*[1.0] * 20, 1000.0]
    axis = axis_for([tail])
    assert axis == Axis(1.0, 1000.0, True)
    assert [axis.x(value) for value in (0.0, 1.0, 10.0, 100.0, 1000.0)] == pytest.approx(
        [4, 4, 68, 132, 196]
    )
    assert axis.ticks() == [1, 10, 100, 1000]
    assert axis_for([[*[1.0] * 20, 20.0]]).log is False


def test_an_axis_of_shares_ends_at_100_percent() -> None:
    """If a density is over a half of that."""
    assert axis_for([[0.5] * 20 + [0.6]], 1.0).high == 1.0
    assert axis_for([[0.1] * 20 + [0.2]], 1.0).high == 0.2


@pytest.mark.parametrize("layers", [[[0.0] * 21], [[-2.0] * 21], [[0.0] * 21, LINE], []])
def test_dead_layers_have_an_axis(layers: list[list[float]]) -> None:
    """A layer whose neurons are all 0 or negative has an axis like any other."""
    axis = axis_for(layers)
    assert axis.low <= 0 <= axis.high
    assert axis.low < axis.high
    for layer in layers:
        ElementTree.fromstring(strip(layer, axis, words))


@given(st.lists(lists, min_size=1, max_size=5))
def test_nothing_is_outside_its_box(layers: list[list[float]]) -> None:
    """Whatever the numbers: valid XML, everything inside the view box, escaped text, no style."""
    axis = axis_for(layers)
    ElementTree.fromstring(scale(axis, words))
    for layer in layers:
        root = ElementTree.fromstring(strip(layer, axis, words))
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"] == root.findtext("title") == describe(layer, words)
        for rect in root.findall("rect"):
            box = {name: float(rect.attrib[name]) for name in ("x", "y", "width", "height")}
            assert 0 <= box["x"] <= box["x"] + box["width"] <= WIDTH
            assert 0 <= box["y"] <= box["y"] + box["height"] <= HEIGHT
        for place in re.findall(r"M([\d.e-]+)", strip(layer, axis, words)):
            assert 0 <= float(place) <= WIDTH
        assert all("style" not in element.attrib for element in root.iter())


def test_the_axis_has_its_ticks() -> None:
    """Round values above the strips, formatted by the caller."""
    root = ElementTree.fromstring(scale(Axis(0.0, 20.0, False), lambda value: f"{value:g}"))
    assert [text.text for text in root.findall("text")] == ["0", "10", "20"]


def test_a_strip_in_words() -> None:
    """Median, middle half and range; a single value is named once."""
    assert describe(LINE, lambda v: f"{v:g}") == "median 10; half from 5 to 15; all from 0 to 20"
    assert describe([3.0] * 21, lambda v: f"{v:g}") == "all at 3"
