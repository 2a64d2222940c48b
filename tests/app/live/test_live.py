"""Texts of a visitor's own: the same numbers as the indexer's, a clear answer to every mistake, and
models that come and go by memory."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
import transformers
from starlette.testclient import TestClient

from app.live.neuron.answer import higher_than
from app.neurons.schemas import Histogram
from indexer.config import IndexConfig
from indexer.demo import MODEL_DIR
from indexer.run.index import index
from tests.conftest import Silent
from tests.helpers.html_reader import elements
from tests.helpers.live_servers import NEURON, TEXT, TRY, answer, live_client_of

# --- The numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [(0, 12), (0, 237), (1, 10), (1, 349), (1, 497)])
def test_activations_are_the_indexer_s(live_client: TestClient, place: tuple[int, int]) -> None:
    """An example's own text gives its stored activations, within the store's rounding."""
    path = "/api/v1/models/demo/layers/{}/neurons/{}".format(*place)
    examples = live_client.get(path).json()["examples"]
    same = 0
    for example in (*examples["top"][:8], *examples["bottom"][:4], *examples["random"][:8]):
        page = live_client.get(f"{path}/contexts/{example['context_id']}").json()
        stored = page["example"]
        found = answer(live_client, page["text"], f"{path}/activations")
        if found["token_ids"] != stored["token_ids"]:
            continue  # cut out of a longer text, its end or beginning is tokenised otherwise
        same += 1
        assert found["tokens"] == stored["tokens"]
        assert found["activations"][0] is None
        ours = np.array(found["activations"][1:])
        theirs = np.array(stored["activations"][1:], dtype=float)
        largest = np.abs(theirs).max()
        assert np.abs(ours - theirs).max() <= (1 / 254 + 1e-4) * largest
        assert found["peak"] == pytest.approx(stored["peak"], abs=1e-4 * largest)
        assert found["peak_position"] == stored["peak_position"]
    assert same >= 10


def test_the_answer_says_where_its_peak_stands(live_client: TestClient) -> None:
    """The bound is one: no more contexts of the sample's histogram lie below, and no fewer."""
    found = answer(live_client, TEXT)
    peaks = live_client.get(NEURON).json()["peak_histogram"]
    assert sum(peaks["counts"]) == 128
    below = [
        n
        for n, end in zip(peaks["counts"], peaks["edges"][1:], strict=True)
        if end <= found["peak"]
    ]
    assert found["higher_than"] == sum(below) / 128
    assert found["peak"] == max(found["activations"][1:])
    assert found["activations"].index(found["peak"]) == found["peak_position"]
    assert found["note"] is None
    assert (found["run"], found["dtype"], found["gate"]) == (1, "float32", None)


def test_effects_are_those_of_the_demo_model_hooked_by_hand(live_client: TestClient) -> None:
    """Predictions as they are, zero- and mean-ablated, and the attribution, from plain GPT-2."""
    found = answer(live_client, TEXT)
    effects, tokens = found["effects"], torch.tensor([found["token_ids"]])
    stats = live_client.get(NEURON).json()["stats"]
    assert effects["mean"] == stats["mean"]
    plain: Any = transformers.AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval()
    block, norm = plain.transformer.h[1], plain.transformer.ln_f
    seen: dict[str, Any] = {}

    def logits(value: float | None) -> Any:
        def change(_: Any, args: Any) -> Any:
            acts = args[0].clone()
            if value is not None:
                acts[0, 1:, 349] = value  # not at the BOS
            seen.setdefault("neurons", acts[0, -1])
            return (acts,)

        handle = block.mlp.c_proj.register_forward_pre_hook(change)
        with torch.no_grad():
            out = plain(tokens, output_hidden_states=True)
        handle.remove()
        seen.setdefault("final", out.hidden_states[-1][0, -1])
        return out.logits[0, -1].double()

    as_is = logits(None).softmax(-1)
    for name, value in (("as_is", None), ("zero_ablated", 0.0), ("mean_ablated", stats["mean"])):
        truth = logits(value).softmax(-1)
        ids = [token["token_id"] for token in effects[name]["tokens"]]
        assert ids == truth.topk(10).indices.tolist()
        told = np.array([[t["probability"], t["as_is"]] for t in effects[name]["tokens"]])
        np.testing.assert_allclose(told[:, 0], truth[ids], rtol=1e-4)
        np.testing.assert_allclose(told[:, 1], as_is[ids], rtol=1e-4)
        divergence = float((as_is * (as_is / truth).log()).sum())
        assert effects[name]["divergence"] == pytest.approx(divergence, abs=1e-6, rel=1e-3)

    # What is normed comes out of the model normed: taking the neuron's write off it, at the norm's
    # own scale, is a matter of the weights.
    told = effects["attribution"]
    scale = float(told["scale"])
    activation = float(seen["neurons"][349])
    write = activation * block.mlp.c_proj.weight[349].detach()
    lost = (write - write.mean()) / scale * norm.weight.detach()
    head = plain.lm_head.weight.detach()
    normed = seen["final"]
    difference = head @ normed - head @ (normed - lost)
    assert told["token_id"] == int(as_is.argmax())
    assert told["activation"] == pytest.approx(activation, rel=1e-4)
    assert told["value"] == pytest.approx(float(difference[told["token_id"]]), rel=1e-2, abs=1e-5)
    assert told["value"] == pytest.approx(told["activation"] * told["logit_effect"] / scale)


@pytest.mark.parametrize(
    ("edges", "counts", "peak", "share"),
    [
        ([0.0, 1.0, 2.0], [3, 1], 0.5, 0.0),
        ([0.0, 1.0, 2.0], [3, 1], 1.0, 0.75),
        ([0.0, 1.0, 2.0], [3, 1], 1.9, 0.75),
        ([0.0, 1.0, 2.0], [3, 1], 2.0, 0.75),  # the last bin may hold a 2 itself
        ([0.0, 1.0, 1.9999999999999998], [3, 1], 2.0, 0.75),
        ([0.0, 1.0, 2.0], [3, 1], 2.1, 1.0),
        ([0.0, 1.0, 2.0], [3, 1], -9.0, 0.0),
        ([1.5, 1.5], [4], 1.5, 0.0),
        ([1.5, 1.5], [4], 1.6, 1.0),
        ([0.0, 1.0], [0], 0.5, None),
    ],
)
def test_a_share_counts_the_bins_wholly_below(
    edges: list[float], counts: list[int], peak: float, share: float | None
) -> None:
    """A bin that the peak falls in, or the closed end of the last one, is not counted."""
    assert higher_than(Histogram(edges=edges, counts=counts), peak) == share


@pytest.fixture(scope="module")
def in_bfloat16(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with a little of the demo, indexed in bfloat16."""
    folder = tmp_path_factory.mktemp("bfloat16")
    url = f"sqlite:///{folder / 'store.db'}"
    config = IndexConfig(model="demo", dtype="bfloat16", max_tokens=3000, sample=16)
    index(config, url, folder / "cache", Silent())
    return url


def test_a_run_in_bfloat16_says_how_far_it_may_be(in_bfloat16: str) -> None:
    """The model is loaded in the run's number format, and the page and the JSON say what it does
    to the numbers."""
    with live_client_of(in_bfloat16) as client:
        found = answer(client, TEXT)
        assert found["dtype"] == "bfloat16"
        assert "may differ from the indexed ones by some percent" in found["note"]
        values = torch.tensor(found["activations"][1:])
        assert torch.equal(values, values.to(torch.bfloat16).float())
        page = client.post(TRY, content=urlencode({"text": TEXT}))
        assert found["note"] in " ".join(elements(page.text).text.split())
