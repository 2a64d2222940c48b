"""An attention head on custom text: JSON and page, against the bundled model hooked by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient
from torch import Tensor
from transformers import AutoModelForCausalLM

from app.reading.store import Reading
from indexer.demo import MODEL_DIR
from tests.conftest import serving
from tests.helpers.live_servers import live_client_of

LAYER, HEAD = 1, 3
API = f"/api/v1/models/demo/heads/{LAYER}/{HEAD}"
PATH, TRY = f"{API}/text", f"/demo/heads/{LAYER}/{HEAD}/try"
TEXT, OTHER = "the king said the king", "the man saw the king"


@pytest.fixture(scope="module")
def live(heads_store: tuple[str, Path]) -> Iterator[TestClient]:
    """A client of a server that loads models."""
    with live_client_of(heads_store[0]) as client:
        yield client


@pytest.fixture(scope="module")
def model() -> Any:
    """The bundled model, as transformers loads it, with patterns."""
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR, attn_implementation="eager").eval()


@torch.no_grad()
def run(model: Any, token_ids: list[int], change: Callable[[Tensor], None]) -> tuple[Any, Tensor]:
    """The model's answer, and the head's outputs [pos, d_head] after `change`."""
    seen: list[Tensor] = []

    def hook(_: Any, args: tuple[Any, ...]) -> Any:
        outputs = args[0].clone()
        own = outputs.view(len(token_ids), 5, 32)[:, HEAD]
        change(own)
        seen.append(own.clone())
        return (outputs,)

    handle = model.transformer.h[LAYER].attn.c_proj.register_forward_pre_hook(hook)
    try:
        out = model(torch.tensor([token_ids]), output_attentions=True)
    finally:
        handle.remove()
    return out, seen[0]


def test_a_head_on_a_text_is_the_models(
    live: TestClient, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patterns of the layer, the direct effects, and predictions with the head ablated and
    patched."""
    response = live.post(PATH, json={"text": TEXT, "patch": OTHER})
    assert response.status_code == 200, response.text
    found = response.json()
    ids = found["token_ids"]
    assert "".join(found["tokens"][1:]).strip() == TEXT
    plain, outputs = run(model, ids, lambda _: None)
    for shown in found["heads"]:
        pattern = plain.attentions[LAYER][0, shown["head"]]
        for query, row in enumerate(shown["rows"]):
            for key, value in row:
                assert value == pytest.approx(float(pattern[query, key]), abs=2e-5)
    assert [shown["head"] for shown in found["heads"]] == [0, 1, 2, 3, 4]

    stream: list[Tensor] = []
    handle = model.transformer.ln_f.register_forward_pre_hook(lambda _, x: stream.append(x[0][0]))
    with torch.no_grad():
        model(torch.tensor([ids]))
    handle.remove()
    targets = torch.tensor([*ids[1:], found["predicted_id"]])
    w_out = model.transformer.h[LAYER].attn.c_proj.weight[32 * HEAD : 32 * HEAD + 32]
    added = outputs @ w_out
    normed = (added - added.mean(-1, keepdim=True)) * model.transformer.ln_f.weight
    scale = (stream[0].var(-1, unbiased=False) + 1e-5).sqrt()
    effects = (normed * model.lm_head.weight[targets]).sum(-1) / scale
    assert found["direct_effects"] == pytest.approx(effects.tolist(), rel=1e-3, abs=1e-5)

    parts = found["logit"]
    assert parts["logit"] == pytest.approx(float(plain.logits[0, -1, targets[-1]]), abs=1e-4)
    assert parts["heads"][LAYER][HEAD] == pytest.approx(found["direct_effects"][-1], abs=1e-5)
    position = model.transformer.wpe.weight[len(ids) - 1]
    centred = (position - position.mean()) * model.transformer.ln_f.weight
    by_position = (centred @ model.lm_head.weight[targets[-1]] / scale[-1]).item()
    assert parts["positions"] == pytest.approx(by_position, rel=1e-3, abs=1e-5)
    names = ("embedding", "positions", "biases")
    whole = sum(parts[name] for name in names) + sum(map(sum, parts["heads"]))
    whole += sum(parts["attention_biases"]) + sum(parts["mlps"])
    assert parts["sum"] == pytest.approx(whole, abs=1e-4)
    assert abs(parts["remainder"]) <= 1e-4
    assert parts["remainder"] == pytest.approx(parts["logit"] - parts["sum"], abs=1e-6)

    other = live.post(PATH, json={"text": OTHER}).json()["token_ids"]
    there, from_other = run(model, other, lambda _: None)
    pattern = there.attentions[LAYER][0, HEAD]
    own = plain.attentions[LAYER][0, HEAD].double()
    values = torch.linalg.solve_triangular(own, outputs.double(), upper=False).float()
    for name, change in {
        "as_is": lambda _: None,
        "zero_ablated": lambda z: z[1:].zero_(),
        "pattern_patched": lambda z: z.copy_(pattern @ values),
        "output_patched": lambda z: z.copy_(from_other),
    }.items():
        out, _ = run(model, ids, change)
        probabilities = out.logits[0, -1].softmax(-1)
        for token in found["effects"][name]["tokens"]:
            expected = float(probabilities[token["token_id"]])
            assert token["probability"] == pytest.approx(expected, rel=2e-3), name
    assert found["effects"]["as_is"]["divergence"] == 0
    assert found["mean_contexts"] == 8
    contexts = live.get(API).json()["examples"]["random"]
    whole = [live.get(f"{API}/contexts/{c['context_id']}").json() for c in contexts]
    first = whole[0]["included_from"]
    common = {id_ for ids_ in (w["token_ids"][first:] for w in whole) for id_ in ids_[::3]}
    for special in (frozenset[int](), frozenset(common)):  # as if they were special tokens inside
        monkeypatch.setattr(Reading, "special_token_ids", special)
        means = []
        for one in whole:
            outputs = run(model, one["token_ids"], lambda _: None)[1]
            inside = enumerate(one["token_ids"])
            means.append(outputs[[at >= first and i not in special for at, i in inside]])
        mean = torch.cat(means).mean(0)
        out, _ = run(model, ids, lambda z, mean=mean: z[1:].copy_(mean))
        again = live.post(PATH, json={"text": TEXT}).json() if special else found
        token = again["effects"]["mean_ablated"]["tokens"][0]
        expected = float(out.logits[0, -1].softmax(-1)[token["token_id"]])
        assert token["probability"] == pytest.approx(expected, rel=2e-3)


def test_the_page_shows_the_answer(live: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form is on the head's page; the result has the text, the layer's heads and five
    predictions, and works without a script. Without room for pictures it says so."""
    assert f'action="{TRY}#result"' in live.get(f"/demo/heads/{LAYER}/{HEAD}").text
    empty = live.get(TRY)
    assert empty.status_code == 200
    assert 'id="result"' not in empty.text
    text = live.post(TRY, data={"text": TEXT, "patch": OTHER}).text
    assert text.count('class="choices"') == 5
    for name in ("token embedding", "positions", "MLPs", "model’s logit", "remainder"):
        assert f"<dt>{name}</dt><dd>" in text
    assert re.search(r'<tr><th scope="row">1</th>(<td class="num">[^<]+</td>){4}', text)
    assert re.findall(r'href="(/demo/heads/1/\d)"[^>]*><svg', text) == [
        f"/demo/heads/1/{head}" for head in range(5)
    ]
    assert TEXT in text
    assert "drawn as a grid" not in text
    monkeypatch.setattr("app.heads.grid.GRID_MOST", 5)
    text = live.post(TRY, data={"text": TEXT}).text
    assert text.count('class="choices"') == 3
    assert '<svg class="pattern"' not in text
    assert "up to 5 tokens, and this text has 6: point at a token" in text


def test_texts_that_cannot_be_used_are_refused(
    live: TestClient, heads_store: tuple[str, Path]
) -> None:
    """An empty text, texts of different lengths, no such head, a server without models."""
    assert live.post(PATH, json={"text": ""}).status_code == 422
    uneven = live.post(PATH, json={"text": TEXT, "patch": "the"})
    assert uneven.status_code == 422
    assert "position by position" in uneven.json()["detail"]
    page = live.post(TRY, data={"text": TEXT, "patch": "the"})
    assert page.status_code == 422
    assert 'role="alert"' in page.text
    assert live.post(API.replace("/1/3", "/1/9") + "/text", json={"text": "x"}).status_code == 404
    assert live.get(PATH).status_code == 405
    with serving(heads_store[0]) as client:
        assert client.post(PATH, json={"text": TEXT}).status_code == 404
        assert "Test custom text" not in client.get(f"/demo/heads/{LAYER}/{HEAD}").text
