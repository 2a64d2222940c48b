"""The picture of a layer: order, colours worked out by hand, words, and tokens that stay text."""

from __future__ import annotations

from collections.abc import Set
from datetime import UTC, datetime
from fractions import Fraction
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.models import picture
from app.models.schemas import LayerPicture, PictureStatistic
from app.schemas import RunRef, Sample, UnitsRef
from indexer.store.units import Units
from tests.helpers.fixture_neurons import ATTRIBUTE, BIDI, CONTROLS, LONG, SCRIPT, ZERO_WIDTH

RUN = RunRef(
    id=1,
    model="toy",
    model_id="toy",
    revision=None,
    hook_point="mlp.hook_post",
    units=UnitsRef(set="neurons", **Units().as_dict()),
    corpus="corpus",
    dtype="float32",
    contexts=1,
    tokens=1,
    ctx_len=8,
    created_at=datetime(2026, 3, 14, tzinfo=UTC),
    content_hash="0" * 64,
)


def drawing(
    values: list[float | None],
    *,
    dead: Set[int] = frozenset(),
    tokens: list[str] | None = None,
    stat: PictureStatistic = "max",
    first: int = 0,
    neurons: int | None = None,
) -> LayerPicture:
    """A layer of which these are all values (or, with `neurons`, those from `first` on)."""
    living = [(v, -i) for i, v in enumerate(values) if v is not None and i not in dead]
    ranked = [value for value, _ in sorted(living)]
    return LayerPicture(
        model="toy",
        layer=2,
        hook_point="mlp.hook_post",
        run=RUN,
        sample=Sample(contexts=8, positions=20),
        stat=stat,
        neurons=neurons or len(values),
        first=first,
        values=values,
        dead=[index in dead for index in range(len(values))],
        peak_tokens=tokens or ["a"] * len(values),
        n_dead=len(dead),
        counted=len(ranked),
        lowest=ranked[0] if ranked else None,
        highest=ranked[-1] if ranked else None,
        highest_neuron=first - max(living)[1] if ranked else None,
        cuts=picture.cuts(ranked),
    )


ADDRESS = ("/toy/2/", "?run=1&x")
"""Of a neuron, round its index: with a character that must be escaped."""


def href(neuron: int) -> str:
    """A neuron's address."""
    return str(neuron).join(ADDRESS)


def cells(drawn: LayerPicture) -> list[tuple[str, str, str, tuple[int, int]]]:
    """Address, colour, title and place (row, column) of every cell, in the picture's order."""
    found = []

    def walk(element: ElementTree.Element, x: int, y: int) -> None:
        moved = [int(part) for part in element.get("transform", "")[10:-1].split() or ("0",)]
        x, y = x + moved[0], y + (moved[1] if len(moved) > 1 else 0)
        if element.tag == "a":
            title = "".join(element.find("title").itertext())
            place = (y // picture.PITCH, x // picture.PITCH - 1)
            found.append((element.attrib["href"], element.attrib["class"], title, place))
        for child in element:
            walk(child, x, y)

    walk(ElementTree.fromstring(picture.draw(drawn, ADDRESS)), 0, 0)
    return found


def test_a_hundred_neurons_are_coloured_by_hand() -> None:
    """Of the values 1 to 100, the steps end at 10, 25, 50, 70, 80, 90, 95, 98, 99."""
    values = [float(value) for value in range(1, 101)]
    at = picture.cuts(values)
    assert at == [10, 25, 50, 70, 80, 90, 95, 98, 99]
    steps = [picture.step(value, at) for value in values]
    sizes = [steps.count(step) for step in range(1, 11)]
    assert sizes == [10, 15, 25, 20, 10, 10, 5, 3, 1, 1]
    assert steps == sorted(steps)


def test_few_neurons_are_coloured_by_hand() -> None:
    """Of four, the lowest 25% are one, the lowest half two, and all that is above 70% the rest."""
    at = picture.cuts([1.0, 2.0, 3.0, 4.0])
    assert at == [1, 1, 2, 3, 4, 4, 4, 4, 4]
    assert [picture.step(value, at) for value in (1, 2, 3, 4)] == [1, 3, 4, 5]


def test_ties_share_the_lower_colour() -> None:
    """Where most are 0, all zeros have the first colour; where all are equal, all have it."""
    at = picture.cuts([0.0] * 60 + [float(value) for value in range(1, 41)])
    assert picture.step(0.0, at) == 1
    assert picture.step(1.0, at) == 4, "it is above the median, and in the lowest 70%"
    assert picture.step(40.0, at) == 10
    same = picture.cuts([2.5] * 7)
    assert picture.step(2.5, same) == 1


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=300))
def test_a_cut_is_the_smallest_value_with_enough_below(values: list[float]) -> None:
    """Checked against its definition, in exact fractions."""
    ranked = sorted(values)
    for level, cut in zip(picture.LEVELS, picture.cuts(ranked), strict=True):
        share = Fraction(level, 100)
        enough = [v for v in ranked if Fraction(sum(w <= v for w in ranked), len(ranked)) >= share]
        assert cut == enough[0]


@pytest.mark.parametrize(("neurons", "wide"), [(1, 32), (1024, 32), (1025, 64), (4096, 64)])
def test_cells_come_in_neuron_order_row_by_row(neurons: int, wide: int) -> None:
    """Cell i is neuron i, in row i ÷ width and column i mod width, and links to it."""
    drawn = drawing([float(index) for index in range(neurons)])
    found = cells(drawn)
    assert [place for *_, place in found] == [divmod(index, wide) for index in range(neurons)]
    assert [address for address, *_ in found] == [href(index) for index in range(neurons)]
    root = ElementTree.fromstring(picture.draw(drawn, ADDRESS))
    rows = -(-neurons // wide)
    assert root.attrib["viewBox"] == f"10 0 {wide * 10 - 1} {rows * 10 - 1}"
    assert all(link.attrib["tabindex"] == "-1" for link in root.iter("a"))


def test_a_part_of_a_wide_layer_keeps_its_numbers() -> None:
    """From neuron 4,096 on, the first cell is neuron 4,096, in the width of the whole layer."""
    found = cells(drawing([1.0, 2.0, 3.0], first=4096, neurons=4099))
    assert [address for address, *_ in found] == [href(index) for index in (4096, 4097, 4098)]
    assert [title for _, _, title, _ in found][2] == "4098 · a · 3.00"
    assert picture.columns(4099) == 64


def test_titles_name_neuron_token_and_value() -> None:
    """As a reader reads them: three digits, a share as a percentage, nothing as a dash."""
    drawn = drawing([0.12345, None, 0.0], dead={2}, tokens=[" cat", "\n", ""], stat="density")
    assert [title for _, _, title, _ in cells(drawn)] == [
        "0 · ␣cat · 12.3%",
        "1 · ↵ · —",
        "2 · ∅ · 0%, dead",
    ]
    drawn = drawing([-1234.5], stat="effect_kurtosis")
    assert cells(drawn)[0][2] == "0 · a · −1,234"


def test_dead_neurons_differ_in_shape_too() -> None:
    """A dead neuron has no colour, and a path of its own; one without a value its own class."""
    drawn = drawing([1.0, 0.0, None, 2.0], dead={1})
    assert [css for _, css, *_ in cells(drawn)] == ["p1", "d", "v", "p4"]
    paths = [
        path.attrib["d"]
        for path in ElementTree.fromstring(picture.draw(drawn, ADDRESS)).iter("path")
    ]
    assert paths[1] not in (paths[0], paths[3])
    assert paths[0] == paths[3]


@pytest.mark.parametrize("token", [SCRIPT, ATTRIBUTE, BIDI, ZERO_WIDTH, CONTROLS, LONG, "</title>"])
def test_a_hostile_token_stays_text(token: str) -> None:
    """Well-formed whatever the token; of characters that act none is left, and it is not long."""
    drawn = drawing([1.0, 2.0], tokens=[token, "b"])
    svg = str(picture.draw(drawn, ADDRESS))
    root = ElementTree.fromstring(svg)
    assert {element.tag for element in root.iter()} == {"svg", "g", "a", "path", "title"}
    assert not set(svg) & set("\u202e\u2066\u200b\u200d\ufeff\x00\x1b\x07\x7f")
    assert len(svg) < 1500
    for element in root.iter():
        assert not [name for name in element.attrib if name.startswith("on") or name == "style"]


def test_the_legend_says_every_step() -> None:
    """Ten steps from the lowest value to the highest; four of them say where they begin."""
    drawn = drawing([float(value) for value in range(1, 101)])
    steps = picture.legend(drawn)
    assert [step.css for step in steps] == [f"p{number}" for number in range(1, 11)]
    assert [(step.mark, step.value) for step in steps if step.mark] == [
        ("lowest", "1.00"),
        ("median", "50.0"),
        ("90%", "90.0"),
        ("99%", "99.0"),
    ]
    assert steps[0].title == "0 to 10% of neurons: 1.00 to 10.0"
    assert steps[9].title == "99 to 100% of neurons: 99.0 to 100"


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        (
            drawing([float(value) for value in range(1, 101)]),
            "Max across 100 live neurons ranges from 1.00 to 100 (neuron 99). The median is 50.0; "
            "one neuron in ten is above 90.0, one in a hundred above 99.0.",
        ),
        (
            drawing([1.0, 5.0, 5.0, 0.0], dead={3}),
            "Max across 3 live neurons ranges from 1.00 to 5.00 (neuron 1). The median is 5.00; "
            "one neuron in ten is above 5.00, one in a hundred above 5.00. 1 of 4 neurons is dead.",
        ),
        (drawing([0.25], stat="density"), "Density of neuron 0 is 25.0%."),
        (drawing([2.0] * 3), "Max of every live neuron is 2.00."),
        (drawing([0.0, 0.0], dead={0, 1}), "2 of 2 neurons are dead."),
        (drawing([None], stat="effect_kurtosis"), "Effect kurtosis is not known of any neuron."),
    ],
)
def test_the_picture_in_words(drawn: LayerPicture, said: str) -> None:
    """The distribution in a sentence; no legend where no two values differ."""
    assert picture.describe(drawn) == said
    assert bool(picture.legend(drawn)) == ("ranges from" in said)
