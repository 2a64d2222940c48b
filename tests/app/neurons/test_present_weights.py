"""What weights and peaks say in words and tables: signs, bounds, what is not known."""

from __future__ import annotations

import pytest

from app.examples.schemas import PeakToken
from app.neurons import weights as present_weights
from app.neurons.schemas import NeuronPage
from app.neurons.weights import WeightsView
from app.web import urls
from tests.helpers import sample_neurons as neurons
from tests.helpers.sample_neurons import EFFECTS, gated_page, neuron_page, weights


def view(page: NeuronPage) -> WeightsView:
    """What the page shows of weights and data."""
    return present_weights.weights(page, urls.neurons("demo", run=3), urls.tokens("demo", run=3))


def test_logit_effects_have_one_scale_of_bars() -> None:
    """The strongest of either sign fills its bar."""
    effects = view(neuron_page()).effects
    assert effects.promoted[0].value == "+0.912"
    assert effects.suppressed[0].value == "−0.610"
    assert 'width="100"' in effects.promoted[0].bar
    assert 'width="67"' in effects.suppressed[0].bar
    assert "<svg" in effects.chart


def test_tokens_lead_to_their_neurons() -> None:
    """Each list to those that do the same to the token, in the run that is shown."""
    shown = view(gated_page())
    token_id = shown.effects.promoted[0].token_id
    href = f"/demo/search?token_id={token_id}&as=promoted&run=3"
    assert shown.effects.promoted[0].href == href
    assert f'<a class="chip" href="{href.replace("&", "&amp;")}"' in shown.effects.shown
    assert "&as=suppressed&" in shown.effects.suppressed[0].href
    assert {some.excites[0].href.split("as=")[1] for some in shown.inputs} == {
        "in&run=3",
        "gate&run=3",
    }
    assert all("as=" not in row.href for some in shown.inputs for row in some.inhibits)
    assert "&as=peak&" in shown.peak_tokens[0].href


@pytest.mark.parametrize(
    ("kurtosis", "words"),
    [
        (-1.2, "no heavier than a normal"),
        (0.0, "no heavier than a normal"),
        (0.01, "hardly heavier than a normal"),
        (0.49, "hardly heavier than a normal"),
        (1.0, "a little heavier"),
        (4.2, "some tokens stand apart"),
        (200.0, "a few tokens stand apart"),
        (None, "all the same"),
    ],
)
def test_kurtosis_in_words(kurtosis: float | None, words: str) -> None:
    """The number is said beside what it means."""
    effects = EFFECTS.model_copy(update={"kurtosis": kurtosis})
    said = view(neuron_page(weights=weights(logit_effects=effects))).effects.words
    assert words in said
    assert said.startswith("All tokens: mean −0.00210, std 0.141")


@pytest.mark.parametrize(
    ("layer", "n_layers", "words"),
    [
        (1, 2, "This is the last layer"),
        (0, 2, "1 layer stands between this neuron and the logits and reads"),
        (2, 30, "27 layers stand between this neuron and the logits and read"),
        (20, 30, "what it does through them is not in these numbers"),
        (2, 30, "the direct reading is weak here"),
    ],
)
def test_what_stands_between_is_said(layer: int, n_layers: int, words: str) -> None:
    """The further from the logits, the weaker the direct reading."""
    assert words in view(neuron_page(layer=layer, n_layers=n_layers)).direct


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (0, "leaves out positions and what attention adds"),
        (1, "1 layer has written"),
        (9, "weak evidence"),
    ],
)
def test_what_came_before_is_said(layer: int, words: str) -> None:
    """The embedding alone is less and less of what a later layer reads."""
    assert words in view(neuron_page(layer=layer, n_layers=30)).reading


def test_parts_are_named_where_there_are_two() -> None:
    """A gated neuron has a gate and a linear part; another reads as a whole."""
    gated = view(gated_page())
    assert [part.title for part in gated.inputs] == [
        "What the gate reads", "What the linear part reads",
    ]  # fmt: skip
    assert gated.inputs[0].cosine == (
        "cos(w_gate, w_out) = 0.310: what opens it points in part along what it writes."
    )
    assert [row.part for row in gated.links[1].rows] == ["gate", "gate", "gate", "in", "in"]
    plain = view(neuron_page())
    assert [part.title for part in plain.inputs] == ["What it reads"]
    assert plain.inputs[0].cosine.startswith("cos(w_in, w_out) = −0.263: it writes in part against")
    assert {row.part for table in plain.links for row in table.rows} == {""}


@pytest.mark.parametrize(("cosine", "words"), [(0.02, "next to nothing"), (None, "")])
def test_a_cosine_near_zero_or_unknown(cosine: float | None, words: str) -> None:
    """It is said that there is nothing to say."""
    (reads,) = weights().inputs
    page = neuron_page(weights=weights(inputs=[reads.model_copy(update={"cosine": cosine})]))
    (part,) = view(page).inputs
    assert words in part.cosine
    assert bool(part.cosine) == bool(words)


def test_links_lead_to_neurons() -> None:
    """Each names its neuron and goes there, in the run that was named."""
    row = view(neuron_page()).links[0].rows[1]
    assert (row.href, row.name, row.value) == ("/demo/0/20?run=3", "0/20", "−0.400")
    assert row.token == "<i>␣</i>Solomon"


def test_nothing_known_says_so() -> None:
    """A first layer has nothing before it, a last one nothing after it."""
    page = neurons.empty_page()
    shown = view(page)
    assert [table.empty for table in shown.links] == [
        "none known", "none: this is the first layer", "none known",
    ]  # fmt: skip
    assert "last layer" in view(neuron_page()).links[2].empty
    assert (shown.inputs, shown.peak_tokens, shown.signs) == ([], [], None)
    assert (shown.effects.chart, shown.effects.words) == ("", "")


def test_peak_tokens_are_cut_and_counted() -> None:
    """The first ten, and over how many contexts; the rest is said to be in the JSON."""
    some = [PeakToken(token=f"t{i}", token_id=i, count=20 - i, mean=1.0) for i in range(12)]
    shown = view(neuron_page(peak_tokens=some))
    assert [row.token for row in shown.peak_tokens] == [f"t{i}" for i in range(10)]
    assert shown.peak_tokens[0].count == "20"
    assert f"Over the {sum(range(9, 21))} different contexts" in shown.peaks_of
    assert "2 more tokens are in the JSON" in shown.peaks_of
    assert "more tokens" not in view(neuron_page(peak_tokens=some[:10])).peaks_of


def test_signs_are_shares_of_all_positions() -> None:
    """Four cases that make up the whole."""
    signs = view(gated_page()).signs
    assert signs is not None
    cases = (signs.both, signs.gate_only, signs.linear_only, signs.neither)
    assert [positions for _, positions in cases] == ["1,200", "900", "60,000", "67,221"]
    assert [said for said, _ in cases] == ["0.93%", "0.7%", "46.4%", "52.0%"]
