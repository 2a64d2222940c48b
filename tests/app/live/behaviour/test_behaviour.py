"""A text through all neurons: what is found is what brute force finds, in each database; and how it
is written. The activations are made up here; tests/test_behaviour_live.py takes a model's."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from app.live.behaviour.answer import answer
from app.live.behaviour.firing import Histograms, Reference, Top, contrast
from app.live.behaviour.reference import reference
from app.live.behaviour.schemas import BehaviourAnswer, BehaviourText, By, ContrastedNeuron
from app.live.behaviour.view import CUTS, brief, percentage, result, step
from app.live.text import OnLayer, OpenText
from app.neurons.schemas import NeuronPage
from app.reading.store import Store
from app.schemas import UnitsRef
from app.web.links import Links
from indexer.store.checksums import Damaged
from indexer.store.database import open_store
from indexer.store.units import Units
from tests.helpers import readers
from tests.helpers.fixture_store import RUNS, TOY, WIDE_RUN
from tests.helpers.html_reader import elements

Array = np.ndarray[Any, Any]
NEURONS = UnitsRef(set="neurons", **Units().as_dict())
VALUES = [-4.0, -0.5, 0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 3.0, 5.0]
"""Edges of histograms, maxima, what is between them and beyond: and few, so that they tie."""
HOSTILE = ["<bos>", "</td><script>alert(1)</script>", "\n", " ", "\u202e", "x" * 200, '"']


@pytest.fixture(scope="module")
def store(any_filled: Engine) -> Store:
    """The hand-written store, in each kind of database."""
    return Store(any_filled)


def opened(acts: list[Array], first: int, tokens: list[str] | None = None) -> OpenText:
    """A text of which a model would say this, a layer after the other."""

    def each_layer(on_layer: OnLayer) -> None:
        for layer, values in enumerate(acts):
            on_layer(layer, values)

    length = first + len(acts[0])
    texts = tokens or [f"t{i}" for i in range(length)]
    return OpenText(texts[:length], list(range(length)), first, each_layer)


def activations(rng: np.random.Generator, widths: list[int], length: int) -> list[Array]:
    """Activations of all layers, that tie."""
    return [rng.choice(VALUES, (length, width)).astype(np.float32) for width in widths]


def asked(store: Store, model: str, texts: list[OpenText], **body: Any) -> BehaviourAnswer:
    """What is answered."""
    with store.reading(model, None) as reading:
        return answer(texts, reading, BehaviourText(text="…", **body))


def by_hand(page: NeuronPage, value: float, by: By) -> float | None:
    """A neuron's share, from what its page says; None where it is left out."""
    if page.stats.max <= 0 or page.stats.dead:
        return None
    edges, counts = page.histogram.edges, page.histogram.counts
    if by == "percentile" and (not sum(counts) or edges[-1] == edges[0]):
        return None
    if value <= 0:
        return 0.0
    if by == "maximum":
        return value / page.stats.max
    below = sum(n for n, end in zip(counts, edges[1:], strict=True) if end <= value)
    return below / sum(counts)


@pytest.mark.parametrize("by", ["maximum", "percentile"])
@pytest.mark.parametrize("model", ["toy", "wide"])
@pytest.mark.parametrize(("first", "k"), [(1, 3), (0, 1), (0, 50)])
def test_what_is_found_is_what_brute_force_finds(
    store: Store, model: str, by: By, first: int, k: int
) -> None:
    """Tokens' neurons, the picture, the contrast: in order, ties by share of maximum and place."""
    run = RUNS[{"toy": TOY, "wide": WIDE_RUN}[model] - 1]
    widths = [len(layer) for layer in run.layers]
    rng = np.random.default_rng(k)
    one, other = activations(rng, widths, 5), activations(rng, widths, 3)
    texts = [opened(one, first), opened(other, first)]
    found = asked(store, model, texts, by=by, against="…", k=k)
    places = [(layer, n) for layer, width in enumerate(widths) for n in range(width)]
    pages = {at: readers.neuron(store, model, *at, None) for at in places}

    def shares(at: tuple[int, int], value: float) -> tuple[float, float] | None:
        page = pages[at]
        share, of_maximum = (by_hand(page, value, way) for way in (by, "maximum"))
        return None if share is None or of_maximum is None else (share, of_maximum)

    living = [at for at in places if shares(at, 1.0) is not None]
    assert (found.compared, found.n_neurons) == (len(living), len(places))
    for row in range(5):
        here = [(*(shares(at, float(one[at[0]][row, at[1]])) or (0, 0)), *at) for at in living]
        ranked = sorted((-share, -most, *at) for share, most, *at in here if share > 0)
        told = [
            (-neuron.share, -neuron.of_maximum, neuron.layer, neuron.neuron)
            for neuron in found.neurons[first + row]
        ]
        assert told == [tuple(one) for one in ranked[:k]]
        for neuron in found.neurons[first + row]:
            assert neuron.activation == one[neuron.layer][row, neuron.neuron]
            page = pages[neuron.layer, neuron.neuron]
            assert neuron.peak_token in {some.token for some in page.peak_tokens}
        for layer in range(len(widths)):
            best = next((some for some in ranked if some[2] == layer), None)
            cell = (found.shares[layer][first + row], found.strongest[layer][first + row])
            assert cell == ((None, None) if best is None else (-best[0], best[3]))
    if first:
        assert found.neurons[0] == []
        assert found.shares[0][0] is None

    assert found.contrast is not None
    for way, sign in ((found.contrast.more, 1), (found.contrast.less, -1)):
        differences = []
        for at in living:
            a, b = (shares(at, float(acts[at[0]][:, at[1]].max())) for acts in (one, other))
            assert a is not None
            assert b is not None
            differences.append((-sign * (a[0] - b[0]), -sign * (a[1] - b[1]), *at))
        ranked = sorted(some for some in differences if some[0] < 0)
        assert [(-one.difference, one.layer, one.neuron) for one in way] == [
            (some[0], *some[2:]) for some in ranked[:k]
        ]
        for neuron in way:
            check_sides(neuron, one, other, first)


def check_sides(neuron: ContrastedNeuron, one: list[Array], other: list[Array], first: int) -> None:
    """Both peaks are the highest activations there are, at their earliest positions."""
    for peak, acts in ((neuron.text, one), (neuron.against, other)):
        values = acts[neuron.layer][:, neuron.neuron]
        assert peak.activation == values.max()
        assert peak.position == first + int(values.argmax())
    assert abs(neuron.text.share - neuron.against.share) == neuron.difference


@given(
    st.lists(st.lists(st.integers(-1, 3), min_size=3, max_size=3), min_size=1, max_size=12),
    st.integers(1, 4),
)
def test_the_k_highest_are_kept_however_layers_come(layers: list[list[int]], k: int) -> None:
    """A list that goes on from layer to layer is that of all layers sorted at once."""
    top = Top(1, k)
    for layer, values in enumerate(layers):
        row = np.array([values], np.float64)
        top.add(layer, row, row % 2)
    every = [
        (-value, -(value % 2), layer, neuron)
        for layer, values in enumerate(layers)
        for neuron, value in enumerate(values)
        if value > 0
    ]
    names = ("layer", "neuron")
    told = list(zip(*(top.columns[name].tolist() for name in names), strict=True))
    assert told == [place[2:] for place in sorted(every)[:k]]


def test_no_layer_is_kept_whole() -> None:
    """When a layer comes, those before it are gone: also of a second text."""
    alive: list[weakref.ref[Array]] = []

    def each_layer(on_layer: OnLayer) -> None:
        for layer in range(4):
            assert not any(one() is not None for one in alive)
            values = np.ones((3, 8), np.float32)
            alive.append(weakref.ref(values))
            on_layer(layer, values)
            del values

    known = Reference(np.full(8, 2.0), np.ones(8, bool), None)
    found, more, less = contrast(each_layer, each_layer, lambda _: known, 3, 2)
    assert len(alive) == 8
    assert found.top["neuron"].tolist() == [0, 1] * 3
    assert len(more["value"]) == len(less["value"]) == 0


def test_both_signs_count_alike() -> None:
    """Of signed units the largest magnitudes are found, whatever their sign; a percentile counts by
    how far it is from the median, and a contrast compares magnitudes."""
    acts = np.array([[-3.0, 1.0, 0.0, 2.0], [0.5, -1.0, -4.0, 0.0]], np.float32)
    size = np.array([4.0, 2.0, 8.0, 2.0])
    known = Reference(size, np.ones(4, bool), None, both_signs=True)
    other = np.zeros((2, 4), np.float32)
    found, more, less = contrast(
        lambda take: take(0, acts),
        lambda take: take(0, other),
        lambda _: known,
        2,
        3,
        both_signs=True,
    )
    assert found.top["neuron"].tolist() == [3, 0, 1, 1, 2, 0]
    np.testing.assert_allclose(found.top["value"], [1, 0.75, 0.5, 0.5, 0.5, 0.125])
    assert found.top["activation"].tolist() == [2, -3, 1, -1, -4, 0.5]
    assert more["neuron"].tolist() == [3, 0, 1]
    assert more["activation a"].tolist() == [2, -3, 1]
    assert len(less["value"]) == 0
    below = np.tile([0, 10, 40, 80, 100], (4, 1))
    edges = Histograms(np.full(4, -4.0), np.full(4, 2.0), below, np.full(4, 4))
    by_percentile = Reference(size, np.ones(4, bool), edges, both_signs=True)
    shares = by_percentile.shares(np.array([[-4.0, -1.0, 1.0, 5.0]], np.float32))
    np.testing.assert_allclose(shares, [[1.0, 0.8, 0.2, 1.0]])


def test_few_questions_are_asked_of_the_store(any_filled: Engine) -> None:
    """Two a layer by percentile, however many tokens and neurons there are."""
    said_to: list[str] = []

    def note(*args: Any) -> None:
        said_to.append(args[2])

    store = Store(any_filled)
    text = opened(activations(np.random.default_rng(0), [37, 5], 30), 0)
    asked(store, "wide", [text])
    event.listen(any_filled, "before_cursor_execute", note)
    try:
        asked(store, "wide", [text], by="percentile")
    finally:
        event.remove(any_filled, "before_cursor_execute", note)
    assert sum("neuron_columns" in one for one in said_to) == 2
    assert sum("neuron_arrays" in one for one in said_to) == 2
    assert sum("peak_token_id" in one for one in said_to) == 1


@pytest.mark.parametrize(
    ("by", "table"), [("maximum", "neuron_columns"), ("percentile", "neuron_arrays")]
)
def test_rows_that_are_missing_are_damage(store_url: str, by: By, table: str) -> None:
    """A search reads one snapshot, so a run that is deleted meanwhile is whole in it."""
    engine = open_store(store_url, create=True)
    RUNS[TOY - 1].write(engine)
    store = Store(engine)
    with store.reading("toy", None) as reading:
        reading.connection.exec_driver_sql(f"DELETE FROM {table}")
        with pytest.raises(Damaged, match="is missing"):
            reference(reading, 0, by)
    store.close()


# --- How it is written --------------------------------------------------------------------------


@given(st.integers(0, 200_000), st.integers(1, 200_000))
def test_a_percentile_is_never_overstated(below: int, total: int) -> None:
    """What is written is no more than what was counted, and 100% is all."""
    share = min(below, total) / total
    for text in (percentage(share, "percentile").removesuffix("%"), brief(share, "percentile")):
        assert float(text) <= share * 100 + 1e-6
        assert (float(text) == 100) == (share == 1)
        assert len(text) <= 6
    assert 0 <= step(share, "percentile") <= len(CUTS)


@pytest.mark.parametrize(
    ("share", "words", "short", "colour"),
    [
        (0.004, "0.4%", "0", 0),
        (0.0501, "5.0%", "5", 1),
        (0.7906, "79.1%", "79", 8),
        (0.9996, "100%", "100", 10),
        (1.0451, "105%", "105", 10),
        (123.4, "12k%", "12k", 10),
        (1e30, "1.00e32%", "1.00e32", 10),
    ],
)
def test_shares_of_a_maximum_are_written_short(
    share: float, words: str, short: str, colour: int
) -> None:
    """Also of a neuron that was all but silent on the corpus."""
    assert percentage(share, "maximum") == words
    assert brief(share, "maximum") == short
    assert step(share, "maximum") == colour


def test_hostile_tokens_are_only_text(store: Store) -> None:
    """Markup, line breaks and directions are shown, in cells, titles and heads."""
    acts = activations(np.random.default_rng(3), [4, 4], len(HOSTILE) - 1)
    found = asked(store, "toy", [opened(acts, 1, HOSTILE)] * 2, against="…")
    shown = result(found, Links("toy"), NEURONS, range(len(found.shares)))
    root = elements(f"<table>{shown.cells}</table><table><tbody>{shown.rows}</tbody></table>")
    text = str(shown.cells) + str(shown.rows)
    assert "<script" not in text
    assert "\u202e" not in text
    assert "x" * 81 not in text
    (head, *_) = root.all("tr")
    assert [cell.text for cell in head.all("th")][1] == "↵"
    picture = root.all("table")[0]
    layers = [row.all("th")[0].text for row in picture.all("tr")[1:]]
    assert layers == ["0", "1"]
    one = result(found, Links("toy"), NEURONS, [1])
    rows = elements(f"<table>{one.cells}</table>").all("tr")[1:]
    assert [row.all("th")[0].text for row in rows] == ["1"], "of layers that have units alone"
    assert "1 layer," in one.summary
    assert not shown.directions[0].rows, "a text is not told from itself"
    assert shown.directions[0].none == "No neuron is higher on the first."
