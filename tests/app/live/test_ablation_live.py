"""Ablation on a custom text: the API against plain forward passes, and its page against the API."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from starlette.testclient import TestClient

from indexer.demo import MODEL_DIR
from tests.helpers.html_reader import Element, elements
from tests.helpers.live_servers import TEXT

API, PAGE = "/api/v1/models/demo/ablation", "/demo/ablation"
PAIR = [{"layer": 0, "neuron": 12}, {"layer": 1, "neuron": 349}]


def asked(client: TestClient, **body: Any) -> Any:
    """What the API says."""
    response = client.post(API, json={"text": TEXT, "neurons": PAIR} | body)
    assert response.status_code == 200, response.text
    return response.json()


def test_losses_are_those_of_the_model_hooked_by_hand(live_client: TestClient) -> None:
    """Two neurons set to their stored means at two positions: every token's loss, and the mean."""
    told = asked(live_client, positions=[4, 2, 2])
    assert told["positions"] == [2, 4]
    paths = [f"/api/v1/models/demo/layers/{one['layer']}/neurons/{one['neuron']}" for one in PAIR]
    means = [live_client.get(path).json()["stats"]["mean"] for path in paths]
    assert [one["mean"] for one in told["neurons"]] == means
    plain: Any = transformers.AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval()

    def setting(neuron: int, value: float) -> Any:
        def change(_: Any, args: Any) -> Any:
            acts = args[0].clone()
            acts.view(-1, acts.shape[-1])[[2, 4], neuron] = value
            return (acts,)

        return change

    blocks = plain.transformer.h
    for one, mean in zip(PAIR, means, strict=True):
        out = blocks[one["layer"]].mlp.c_proj
        out.register_forward_pre_hook(setting(one["neuron"], mean))
    ids = told["token_ids"]
    with torch.no_grad():
        log_p = plain(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    truth = [-float(log_p[at, token]) for at, token in enumerate(ids[1:])]
    losses = told["mean_ablated"]["losses"]
    assert losses[0] is None
    np.testing.assert_allclose(losses[1:], truth, rtol=1e-4)
    assert told["mean_ablated"]["loss"] == pytest.approx(np.mean(truth), rel=1e-5)
    assert told["zero_ablated"]["divergences"][:2] == [0, 0]
    assert min(told["zero_ablated"]["divergences"][2:]) > 0
    assert told["baseline"]["divergences"] == [0] * len(ids)


def test_ablation_everywhere_agrees_with_the_neuron_s_own_box(live_client: TestClient) -> None:
    """With one neuron and all positions, the last prediction's divergence is that of its page."""
    told = asked(live_client, neurons=PAIR[1:])
    path = "/api/v1/models/demo/layers/1/neurons/349/activations"
    effects = live_client.post(path, json={"text": TEXT}).json()["effects"]
    for name in ("zero_ablated", "mean_ablated"):
        assert told[name]["divergences"][-1] == pytest.approx(effects[name]["divergence"], rel=1e-3)
    assert told["positions"] == list(range(1, len(told["tokens"])))


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        ({"positions": [0]}, 422, "Position 0 is not one of the text's: they go from 1 to"),
        ({"positions": []}, 422, "No position is chosen"),
        ({"neurons": []}, 422, "at least 1 item"),
        ({"neurons": PAIR * 26}, 422, "at most 50 items"),
        ({"neurons": [{"layer": 0, "neuron": 640}]}, 404, "640"),
        ({"text": ""}, 422, "The text is empty"),
        ({"text": "the " * 300}, 413, "the maximum is 128"),
    ],
)
def test_what_cannot_be_done_is_said(
    live_client: TestClient, body: dict[str, Any], status: int, why: str
) -> None:
    """One sentence with what was wrong."""
    response = live_client.post(API, json={"text": TEXT, "neurons": PAIR} | body)
    assert response.status_code == status
    assert why in response.json()["detail"]


def ticks(page: Element) -> list[Element]:
    """The boxes of the text's tokens."""
    return [one for one in page.all("input") if one.attributes["name"] == "at"]


def test_the_page_ticks_tokens(live_client: TestClient) -> None:
    """Without a script: ticked tokens stay ticked and are where neurons are ablated, until the text
    changes."""
    asking = live_client.get(f"{PAGE}?n=0/12,1/349")
    assert "0/12,1/349</textarea>" in asking.text
    sent = {"text": TEXT, "neurons": "0/12, L1N349"}
    first = elements(live_client.post(PAGE, data=sent).text)
    boxes = ticks(first)
    assert len(boxes) == len(asked(live_client)["tokens"]) - 1
    assert not [box for box in boxes if "checked" in box.attributes]
    (of,) = (one for one in first.all("input") if one.attributes["name"] == "of")
    ticked = {**sent, "at": ["2", "4"], "of": of.attributes["value"]}
    second = elements(live_client.post(PAGE, data=ticked).text)
    boxes = ticks(second)
    assert [b.attributes["value"] for b in boxes if "checked" in b.attributes] == ["2", "4"]
    assert len(second.all("tr", "is-ablated")) == 2
    changed = live_client.post(PAGE, data=ticked | {"text": "x" + TEXT}).text
    assert "The text has changed since tokens were ticked" in changed
    for neurons, why in (("", "No neuron is named"), ("0/12, foo", "“foo” is not a neuron")):
        response = live_client.post(PAGE, data=sent | {"neurons": neurons})
        assert response.status_code == 422
        assert why in response.text
