"""Weights and peak tokens in words and tables: signs, bounds, what is not known."""

from __future__ import annotations

import re
from html import unescape

import pytest

from app.examples.schemas import PeakToken
from app.neurons import weights as module
from app.neurons.schemas import NeuronPage
from app.neurons.weights import WeightsView
from app.web import urls
from tests.helpers import sample_neurons as neurons
from tests.helpers.sample_neurons import EFFECTS, gated_page, neuron_page, weights


def view(page: NeuronPage) -> WeightsView:
    """The view of a page's weights, its links in run 3."""
    return module.weights(page, urls.neurons("demo", run=3), urls.tokens("demo", run=3))


def hrefs(markup: str) -> list[str]:
    """The addresses of all links."""
    return [unescape(href) for href in re.findall(r'href="([^"]+)"', markup)]


def test_logit_effects_have_one_scale_of_bars() -> None:
    """The strongest of either sign fills its bar."""
    effects = view(neuron_page()).effects
    promoted, suppressed = effects.tables.split("Suppresses")
    rows = [table.split("<tbody>")[1].split("</tr>")[0] for table in (promoted, suppressed)]
    assert "+0.912" in rows[0]
    assert "−0.610" in rows[1]
    assert 'width="100"' in rows[0]
    assert 'width="67"' in rows[1]
    assert "<svg" in effects.chart


def test_tokens_lead_to_their_neurons() -> None:
    """Each list links to the neurons with the same role, in the run of the page."""
    page = gated_page()
    weights = view(page)
    promoted, suppressed = map(hrefs, weights.effects.tables.split("Suppresses"))
    token_id = page.weights.logit_effects.top[0].token_id
    assert promoted[0] == f"/demo/search?token_id={token_id}&as=promoted&run=3"
    assert "&as=suppressed&" in suppressed[0]
    lists = [map(hrefs, part.tables.split("Inhibited by")) for part in weights.inputs]
    roles = set()
    for excites, inhibits in lists:
        roles |= {href.split("as=")[1] for href in excites}
        assert inhibits
        assert all("as=" not in href for href in inhibits)
    assert roles == {"in&run=3", "gate&run=3"}
    assert "&as=peak&" in hrefs(weights.peak_tokens)[0]


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
        (None, "All are equal"),
    ],
)
def test_kurtosis_in_words(kurtosis: float | None, words: str) -> None:
    """The number comes with its meaning."""
    effects = EFFECTS.model_copy(update={"kurtosis": kurtosis})
    text = view(neuron_page(weights=weights(logit_effects=effects))).effects.spread
    assert words in text
    assert text.startswith("All tokens: mean −0.00210, std 0.141")


@pytest.mark.parametrize(
    ("layer", "n_layers", "words"),
    [
        (1, 2, "Only the final norm lies between this neuron and the logits"),
        (0, 2, "1 layer lies between this neuron and the logits and reads"),
        (2, 30, "27 layers lie between this neuron and the logits and read"),
        (20, 30, "its indirect effects are not included"),
        (2, 30, "direct effects are weak evidence"),
    ],
)
def test_later_layers_weaken_direct_effects(layer: int, n_layers: int, words: str) -> None:
    """The further a neuron is from the logits, the less its direct effects mean."""
    assert words in view(neuron_page(layer=layer, n_layers=n_layers)).direct


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (0, "positions and attention are left out"),
        (1, "1 layer writes to it before"),
        (9, "weak evidence"),
    ],
)
def test_earlier_layers_weaken_input_tokens(layer: int, words: str) -> None:
    """The embedding alone is a smaller part of what a later layer reads."""
    assert words in view(neuron_page(layer=layer, n_layers=30)).reading


def test_parts_have_names_if_there_are_two() -> None:
    """A gated neuron has a gate and a linear part; other neurons have one part."""
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


@pytest.mark.parametrize(("cosine", "words"), [(0.02, "nearly orthogonal"), (None, "")])
def test_a_cosine_near_zero_or_unknown(cosine: float | None, words: str) -> None:
    """Near zero the sentence says so; an unknown cosine has none."""
    (reads,) = weights().inputs
    page = neuron_page(weights=weights(inputs=[reads.model_copy(update={"cosine": cosine})]))
    (part,) = view(page).inputs
    assert words in part.cosine
    assert bool(part.cosine) == bool(words)


def test_links_lead_to_neurons() -> None:
    """Each link names its neuron and the run of the page."""
    row = view(neuron_page()).links[0].rows[1]
    assert (row.href, row.name, row.value) == ("/demo/0/20?run=3", "0/20", "−0.400")
    assert row.token == "<i>␣</i>Solomon"


def test_empty_lists_give_a_reason() -> None:
    """The first layer has no earlier neurons, and nothing is shown for missing data."""
    weights = view(neurons.empty_page())
    assert [re.sub("<[^>]*>", "", table.markup).strip() for table in weights.links] == [
        "none", "none: this is the first layer", "none",
    ]  # fmt: skip
    assert (weights.inputs, hrefs(weights.peak_tokens), weights.signs) == ([], [], None)
    assert (weights.effects.chart, weights.effects.spread) == ("", "")


def test_peak_tokens_are_cut_and_counted() -> None:
    """The page has the first ten, the number of contexts, and how many more the JSON has."""
    tokens = [PeakToken(token=f" t{i}", token_id=i, count=20 - i, mean=1.0) for i in range(12)]
    page = neuron_page(peak_tokens=tokens)
    weights, rows = view(page), module.peak_tokens_of(page, urls.tokens("demo"))
    assert [row.token for row in rows] == [f"<i>␣</i>t{i}" for i in range(10)]
    assert rows[0].count == "20"
    assert len(hrefs(weights.peak_tokens)) == 10
    assert f"Of the {sum(range(9, 21))} different contexts" in weights.peaks_of
    assert "2 more tokens are in the JSON" in weights.peaks_of
    assert "more tokens" not in view(neuron_page(peak_tokens=tokens[:10])).peaks_of


def test_signs_are_shares_of_all_positions() -> None:
    """The four cases add up to all positions."""
    signs = view(gated_page()).signs
    assert signs is not None
    cases = (signs.both, signs.gate_only, signs.linear_only, signs.neither)
    assert [positions for _, positions in cases] == ["1,200", "900", "60,000", "67,221"]
    assert [share for share, _ in cases] == ["0.93%", "0.7%", "46.4%", "52.0%"]
