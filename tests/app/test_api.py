"""The API over a hand-written store: the exact JSON."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.helpers import fixture_store
from tests.helpers.fixture_store import CONTEXTS, MARKUP_SOURCE, TEXTS, TOY_NEURONS, Chosen

NEURON = "/api/v1/models/toy/layers/{}/neurons/{}"


def example(rank: int, chosen: Chosen) -> dict[str, Any]:
    """The JSON of an example, its activations before rounding."""
    text = CONTEXTS[chosen.context]
    window = chosen.window
    ids = list(text.token_ids[chosen.start : chosen.start + len(window)])
    return {
        "rank": rank,
        "peak": chosen.peak,
        "peak_position": chosen.peak_position,
        "trough": chosen.trough,
        "trough_position": chosen.trough_position,
        "context_id": chosen.context,
        "document_index": text.document,
        "source": fixture_store.SOURCES[text.source] or None,
        "gate": None if math.isnan(chosen.gate) else chosen.gate,
        "linear": None if math.isnan(chosen.linear) else chosen.linear,
        "start": chosen.start,
        "tokens": [TEXTS[token_id] for token_id in ids],
        "token_ids": ids,
        "activations": window,
    }


def assert_examples(given: list[dict[str, Any]], chosen: list[Chosen]) -> None:
    """Examples are these, activations to within 1/254 of the window's largest, extremes exact."""
    expected = [example(rank, some) for rank, some in enumerate(chosen, 1)]
    assert len(given) == len(expected)
    for here, there in zip(given, expected, strict=True):
        values, exact = here["activations"], there["activations"]
        assert {**here, "activations": None} == {**there, "activations": None}
        assert [value is None for value in values] == [value is None for value in exact]
        known = [
            (value, true) for value, true in zip(values, exact, strict=True) if true is not None
        ]
        largest = max(abs(true) for _, true in known)
        assert all(abs(value - true) <= largest / 254 * 1.0001 for value, true in known)
        for place, extreme in (("peak_position", "peak"), ("trough_position", "trough")):
            at = here[place] - here["start"]
            if 0 <= at < len(values):
                assert values[at] == here[extreme]


def link(layer: int, neuron: int, value: float, part: str | None = None) -> dict[str, Any]:
    """The JSON of a link to a neuron, with the token its first example peaks on."""
    best = TOY_NEURONS[layer][neuron].top[0]
    token = TEXTS[CONTEXTS[best.context].token_ids[best.peak_position]]
    return {"layer": layer, "neuron": neuron, "value": value, "part": part, "peak_token": token}


def test_an_ordinary_neuron_is_exactly_this(client: TestClient) -> None:
    """Every field of the first neuron, written out by hand."""
    run = {
        "id": 3,
        "model": "toy",
        "model_id": "hand/toy",
        "revision": None,
        "hook_point": "mlp.hook_post",
        "units": {
            "set": "neurons",
            "noun": "neuron",
            "signed": False,
            "sparse": False,
            "gated": False,
            "parts": False,
            "dead_by_magnitude": False,
            "group": None,
            "blocks": None,
            "two_sided": False,
            "no_writes": "",
            "no_reads": "",
            "no_links": "",
        },
        "corpus": "corpus & <i>sons</i>",
        "dtype": "float32",
        "contexts": 9,
        "tokens": 1234,
        "ctx_len": 8,
        "created_at": "2026-03-14T15:12:26.535898Z",
    }
    page = client.get(NEURON.format(0, 0)).json()
    others = page.pop("other_runs")
    assert re.fullmatch("[0-9a-f]{64}", page["run"].pop("content_hash"))
    examples = page.pop("examples")
    assert page == {
        "model": "toy",
        "layer": 0,
        "neuron": 0,
        "n_layers": 2,
        "hook_point": "blocks.0.mlp.hook_post",
        "run": run,
        "sample": {"contexts": 8, "positions": 20},
        "scale": 2.5,
        "stats": {
            "max": 2.5,
            "min": -0.5,
            "mean": 0.25,
            "std": 0.5,
            "skewness": 1.5,
            "kurtosis": 3.0,
            "density": 0.5,
            "density_over_tenth": 0.375,
            "lookup": 0.625,
            "tenth": 0.25,
            "dead": False,
            "peak_quantiles": {
                "q01": -0.5,
                "q10": 0.0,
                "q25": 0.25,
                "q50": 0.5,
                "q75": 1.0,
                "q90": 2.0,
                "q99": 2.5,
            },
        },
        "histogram": {"edges": [-0.5, 0.5, 1.5, 2.5], "counts": [7, 12, 1]},
        "peak_histogram": {"edges": [-0.5, 1.0, 2.5], "counts": [5, 3]},
        "signs": None,
        "peak_tokens": [
            {"token": "the", "token_id": 1, "count": 1, "mean": 2.5},
            {"token": " cat", "token_id": 2, "count": 1, "mean": 2.5},
            {"token": "\\xff", "token_id": 12, "count": 1, "mean": 1.25},
            {"token": "{{ page }}", "token_id": 18, "count": 1, "mean": 0.375},
        ],
        "together": [link(0, 3, 1.0), link(0, 2, 0.5)],
        "weights": {
            "logit_effects": {
                "top": [
                    {"token": " cat", "token_id": 2, "value": 1.5, "corpus_count": 300},
                    {"token": " sat", "token_id": 3, "value": 0.75, "corpus_count": 0},
                ],
                "bottom": [
                    {"token": "the", "token_id": 1, "value": -2.0, "corpus_count": 400},
                    {"token": "\n", "token_id": 4, "value": -0.25, "corpus_count": 100},
                ],
                "mean": 0.0,
                "std": 0.625,
                "kurtosis": 4.5,
                "histogram": {"edges": [-2.0, -0.25, 1.5], "counts": [18, 2]},
            },
            "inputs": [
                {
                    "part": "in",
                    "top": [
                        {"token": " cat", "token_id": 2, "value": 3.0, "corpus_count": 300},
                        {"token": " sat", "token_id": 3, "value": 2.0, "corpus_count": 0},
                    ],
                    "bottom": [
                        {"token": "\n", "token_id": 4, "value": -4.0, "corpus_count": 100},
                        {"token": "the", "token_id": 1, "value": -1.0, "corpus_count": 400},
                    ],
                    "cosine": -0.25,
                }
            ],
            "alike": [link(1, 1, 0.75), link(0, 3, 0.5)],
            "upstream": [],
            "downstream": [link(1, 0, -2.0, "in"), link(1, 1, 1.5, "in")],
            "not_available": None,
        },
        "previous": None,
        "next": {"layer": 0, "neuron": 1},
        "layer_before": None,
        "layer_after": {"layer": 1, "neuron": 0},
        "found_in": [
            {"source": "plain", "examples": 1, "share": 5 / 9},
            {"source": MARKUP_SOURCE, "examples": 1, "share": 3 / 9},
        ],
        "peaks_by_source": [],
        "top_token_ids": [0, 1, 2],
        "notes": None,
        "aligned": [],
        "dictionary": None,
    }
    assert [(other["id"], other["hook_point"]) for other in others] == [
        (4, "mlp.hook_pre"),
        (1, "mlp.hook_post"),
    ]
    first = examples["top"][0]
    assert first.pop("activations")[:3:2] == [None, 2.5]
    assert first == {
        "rank": 1,
        "peak": 2.5,
        "peak_position": 2,
        "trough": -0.125,
        "trough_position": 3,
        "context_id": 0,
        "document_index": 0,
        "source": "plain",
        "gate": None,
        "linear": None,
        "start": 0,
        "tokens": ["<|bos|>", "the", " cat", " sat", "\n"],
        "token_ids": [0, 1, 2, 3, 4],
    }
    windowed = examples["random"][0]
    assert windowed["start"] == 2
    assert windowed["tokens"] == ["é", "{{ page }}", "&amp;</span></p></details>", "\n"]
    assert windowed["source"] == MARKUP_SOURCE
    assert windowed["activations"] == pytest.approx([0.0, 0.375, 0.25, 0.0], abs=0.375 / 254)
    bands = examples["bands"]
    shape = ("low", "high", "nominal_share", "share")
    assert [tuple(band[name] for name in shape) for band in bands] == [
        (2.0, None, 0.01, 0.0),
        (1.0, 2.0, 0.09, 0.25),
        (0.3125, 1.0, 0.4, 0.5),
        (None, 0.3125, 0.5, 0.25),
    ]
    assert [[some["context_id"] for some in band["examples"]] for band in bands] == [
        [],
        [2],
        [7],
        [],
    ]


@pytest.mark.parametrize(
    ("layer", "neuron"), [(layer, neuron) for layer in range(2) for neuron in range(4)]
)
def test_every_neuron_has_its_numbers_and_examples(
    any_client: TestClient, layer: int, neuron: int
) -> None:
    """Statistics and examples of all kinds are those the store was made of."""
    made = TOY_NEURONS[layer][neuron]
    page = any_client.get(NEURON.format(layer, neuron)).json()
    stats = page["stats"]
    assert (stats["max"], stats["min"], stats["mean"], stats["std"]) == (
        made.maximum,
        made.minimum,
        made.mean,
        made.std,
    )
    assert stats["dead"] is made.dead
    assert list(stats["peak_quantiles"].values()) == list(made.peak_quantiles)
    assert page["histogram"] == {"edges": list(made.edges), "counts": list(made.counts)}
    examples = page["examples"]
    assert_examples(examples["top"], list(made.top))
    assert_examples(examples["bottom"], list(made.bottom))
    assert_examples(examples["random"], list(made.random))
    in_bands = [some["context_id"] for band in examples["bands"][::-1] for some in band["examples"]]
    assert in_bands == [some.context for some in made.band]
    for effects, way in (("top", made.promotes), ("bottom", made.suppresses)):
        assert page["weights"]["logit_effects"][effects] == [
            {
                "token": TEXTS[token_id],
                "token_id": token_id,
                "value": value,
                "corpus_count": fixture_store.TOKEN_COUNTS[token_id],
            }
            for token_id, value in way
        ]


def test_a_neuron_that_never_varied_has_no_moments(client: TestClient) -> None:
    """Skewness and kurtosis are null where the standard deviation is 0."""
    stats = client.get(NEURON.format(1, 0)).json()["stats"]
    assert (stats["std"], stats["skewness"], stats["kurtosis"]) == (0.0, None, None)


def test_a_neuron_without_examples_of_a_kind_has_empty_lists(client: TestClient) -> None:
    """No bottom or random examples and no bands are empty lists, not missing ones."""
    examples = client.get(NEURON.format(1, 3)).json()["examples"]
    assert len(examples["top"]) == 1
    assert (examples["bottom"], examples["random"], examples["bands"]) == ([], [], [])


def test_hostile_tokens_come_back_whole(any_client: TestClient) -> None:
    """JSON gives a token's very characters; bytes that are no character stand as \\xNN."""
    top = any_client.get(NEURON.format(1, 1)).json()["examples"]["top"]
    assert top[0]["tokens"] == ["<|bos|>", "\\xf0\\x9f", "\\x98\\x80", "the", fixture_store.SCRIPT]
    assert top[1]["tokens"] == [
        "the",
        "\\xff",
        fixture_store.BIDI,
        fixture_store.ZERO_WIDTH,
        fixture_store.CONTROLS,
        fixture_store.ATTRIBUTE,
    ]
    assert top[1]["activations"][0] == -4.0, "without a BOS the first position is included"
    assert top[2]["tokens"][1] == fixture_store.LONG


def test_examples_by_source_are_in_corpus_order(any_client: TestClient) -> None:
    """Each source has its own examples and mean peak; a source that the sample lacks has none."""
    sources = any_client.get(NEURON.format(0, 0)).json()["examples"]["sources"]
    told = [(some["source"], some["other"], some["mean_peak"]) for some in sources]
    assert told == [("plain", False, 1.0), (MARKUP_SOURCE, False, None), (None, False, 0.5)]
    made = list(TOY_NEURONS[0][0].source)
    for given, expected in zip(sources, [made[:1], made[1:3], made[3:]], strict=True):
        assert_examples(given["examples"], expected)
    assert any_client.get(NEURON.format(0, 1)).json()["examples"]["sources"] == []


def test_a_gated_neuron_has_its_two_factors(any_client: TestClient) -> None:
    """Gate and linear part stand beside each example, their signs are counted, both have tokens."""
    page = any_client.get(NEURON.format(0, 3)).json()
    assert page["signs"] == {"both": 5, "gate_only": 4, "linear_only": 3, "neither": 8}
    top, bottom = page["examples"]["top"], page["examples"]["bottom"]
    assert (top[0]["gate"], top[0]["linear"]) == (2.0, 1.25)
    assert (top[1]["gate"], top[1]["linear"]) == (None, None)
    assert (bottom[0]["gate"], bottom[0]["linear"]) == (-0.5, 4.0)
    inputs = page["weights"]["inputs"]
    assert [(some["part"], some["cosine"]) for some in inputs] == [("gate", 0.5), ("in", 0.0)]
    assert inputs[0]["top"] == [
        {"token": fixture_store.SCRIPT, "token_id": 7, "value": 1.0, "corpus_count": 29}
    ]
    assert page["weights"]["upstream"] == [link(0, 1, -0.5, "gate")]


def test_peak_tokens_count_every_context_once(client: TestClient) -> None:
    """Over all kinds: two contexts of the hostile neuron peak on one token each, none twice."""
    page = client.get(NEURON.format(1, 1)).json()
    kept = {some.context: some for some in TOY_NEURONS[1][1].top}
    assert page["peak_tokens"] == [
        {"token": TEXTS[token_id], "token_id": token_id, "count": 1, "mean": some.peak}
        for some in sorted(kept.values(), key=lambda one: -one.peak)
        for token_id in [CONTEXTS[some.context].token_ids[some.peak_position]]
    ]


@pytest.mark.parametrize(("neuron", "context"), [(0, 2), (0, 7), (3, 1)])
def test_a_whole_context(any_client: TestClient, neuron: int, context: int) -> None:
    """All its tokens, with the activations that are stored; the extremes always, and exact."""
    page = any_client.get(NEURON.format(0, neuron) + f"/contexts/{context}").json()
    made = TOY_NEURONS[0][neuron]
    kinds = {
        kind: [some for some in getattr(made, kind) if some.context == context]
        for kind in ("top", "bottom", "random", "band", "source")
    }
    assert page["kinds"] == [kind for kind, some in kinds.items() if some]
    assert page["scale"] == max(abs(made.maximum), abs(made.minimum))
    text = CONTEXTS[context]
    assert page["length"] == len(text.token_ids)
    spelled = b"".join(
        fixture_store.VOCABULARY[token_id] for token_id in text.token_ids[text.bos :]
    )
    assert page["text"] == spelled.decode("utf-8", "replace")
    shown = page["example"]
    assert (shown["start"], shown["token_ids"]) == (0, list(text.token_ids))
    chosen = next(some for group in kinds.values() for some in group)
    stored = range(chosen.start, chosen.start + len(chosen.window))
    exact = [None] * text.bos + list(chosen.activations)
    extremes = {chosen.peak_position: chosen.peak, chosen.trough_position: chosen.trough}
    for position, value in enumerate(shown["activations"]):
        if position in extremes:
            assert value == extremes[position]
        elif position in stored and exact[position] is not None:
            assert value == pytest.approx(exact[position], abs=made.maximum / 254)
        else:
            assert value is None


def test_a_context_of_bottom_and_other_kinds_has_the_gate_at_its_peak(
    any_client: TestClient,
) -> None:
    """The factors at the trough are given only where it is a bottom example and nothing else."""
    page = any_client.get(NEURON.format(0, 3) + "/contexts/1").json()
    assert page["kinds"] == ["top", "bottom"]
    assert (page["example"]["gate"], page["example"]["linear"]) == (2.0, 1.25)


def test_a_context_that_is_no_example_is_not_found(client: TestClient) -> None:
    """Neither one of another neuron nor one that is not there at all."""
    for context in (3, 5, 2**63 - 1):
        answer = client.get(NEURON.format(0, 0) + f"/contexts/{context}")
        assert answer.status_code == 404
        assert f"Context {context} is not an example" in answer.json()["detail"]
