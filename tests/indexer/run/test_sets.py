"""A model indexed at several hook points: three sets of units in one store, served, verified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from sqlalchemy import select
from transformers import AutoModelForCausalLM

from indexer.config import Execution, IndexConfig
from indexer.run.index import index
from indexer.run.stopping import Stopped
from indexer.store import schema
from indexer.store.database import open_store
from indexer.verify.run import verify
from tests.conftest import Silent, serving
from tests.helpers.stopped_runs import stopped_after
from tests.helpers.tiny_models import save_tiny_model
from tests.helpers.verify_cases import write_corpus

SETS = {"neurons": None, "resid_post": "hook_resid_post", "attn_z": "attn.hook_z"}


class Indexed:
    """A tiny Llama indexed as three sets."""

    def __init__(self, folder: Path) -> None:
        self.model = save_tiny_model(folder / "model", "llama")
        self.config = IndexConfig(
            model=str(self.model),
            corpus=str(write_corpus(folder / "text.jsonl")),
            name="tiny",
            ctx_len=16,
            sample=20,
            top_k=5,
            batch_tokens=64,
        )
        self.url, self.cache = f"sqlite:///{folder / 'sets.db'}", folder / "cache"
        for hook_point in SETS.values():
            index(replace(self.config, hook_point=hook_point), self.url, self.cache, Silent())

    def hashes(self, url: str | None = None) -> list[str]:
        """The content hashes of all runs."""
        engine = open_store(url or self.url, create=False)
        with engine.connect() as connection:
            found = connection.scalars(select(schema.runs.c.content_hash)).all()
        engine.dispose()
        return list(found)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    """The three runs."""
    return Indexed(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def client(indexed: Indexed) -> Any:
    """A client of a server over them."""
    with serving(indexed.url) as client:
        yield client


def contexts_of(indexed: Indexed) -> list[np.ndarray[Any, Any]]:
    """The token ids of every prepared context."""
    from indexer.corpus.prepared import open_prepared

    (folder,) = [path for path in (indexed.cache / "corpora").iterdir() if path.is_dir()]
    corpus = open_prepared(folder)
    return [corpus.context(context) for context in range(corpus.contexts)]


def test_both_ends_are_brute_force(indexed: Indexed, client: TestClient) -> None:
    """Top and bottom of a signed unit, as many of each, are those of a plain pass over the corpus
    with a hook on transformers' own module."""
    model = AutoModelForCausalLM.from_pretrained(indexed.model).eval()
    block = model.model.layers[1]
    seen: dict[str, torch.Tensor] = {}
    block.register_forward_hook(lambda _m, _a, out: seen.update(resid_post=out))
    block.self_attn.o_proj.register_forward_pre_hook(lambda _, args: seen.update(attn_z=args[0]))
    values: dict[str, list[np.ndarray[Any, Any]]] = {"resid_post": [], "attn_z": []}
    with torch.no_grad():
        for token_ids in contexts_of(indexed):
            model.model(torch.from_numpy(token_ids.astype(np.int64))[None])
            for name, found in values.items():
                found.append(seen[name].reshape(len(token_ids), -1)[1:].numpy())
    for name, found in values.items():
        peaks = np.stack([context.max(0) for context in found])
        troughs = np.stack([context.min(0) for context in found])
        for unit in (0, 7, 31):
            address = f"/api/v1/models/tiny/sets/{name}/layers/1/neurons/{unit}"
            page = client.get(address).json()
            top = [(e["context_id"], e["peak"]) for e in page["examples"]["top"]]
            bottom = [(e["context_id"], e["trough"]) for e in page["examples"]["bottom"]]
            assert len(top) == len(bottom) == 5
            highest = np.argsort(-peaks[:, unit], kind="stable")[:5]
            lowest = np.argsort(troughs[:, unit], kind="stable")[:5]
            np.testing.assert_allclose([v for _, v in top], peaks[highest, unit], rtol=1e-4)
            np.testing.assert_allclose([v for _, v in bottom], troughs[lowest, unit], rtol=1e-4)
            assert [context for context, _ in top] == highest.tolist()
            assert [context for context, _ in bottom] == lowest.tolist()


def test_logit_effects_of_a_dimension(indexed: Indexed, client: TestClient) -> None:
    """A dimension of the residual stream writes itself: its row of the unembedding, times the
    final norm's weight."""
    model = AutoModelForCausalLM.from_pretrained(indexed.model)
    page = client.get("/api/v1/models/tiny/sets/resid_post/layers/0/neurons/3").json()
    effects = model.lm_head.weight[:, 3] * model.model.norm.weight[3]
    top = page["weights"]["logit_effects"]["top"]
    ids = [entry["token_id"] for entry in top]
    known = effects.detach().numpy()
    np.testing.assert_allclose([entry["value"] for entry in top], known[ids], rtol=1e-4)
    assert top[0]["value"] == pytest.approx(np.sort(known[: max(ids) + 1])[-1], rel=1e-4)
    assert page["weights"]["inputs"] == page["weights"]["alike"] == []
    assert page["run"]["units"]["no_reads"].startswith("It is a dimension")


def test_every_set_has_pages(client: TestClient) -> None:
    """Each set's pages and their JSON are under its name, and lead to each other."""
    sets = client.get("/api/v1/models/tiny").json()["sets"]
    assert [each["run"]["units"]["set"] for each in sets] == ["neurons", "attn_z", "resid_post"]
    home = client.get("/tiny").text
    for name, noun in (("attn_z", "dimension"), ("resid_post", "dimension")):
        assert f'href="/tiny/{name}"' in home
        for rest in ("", "/1", "/1/9", "/1/9/sources", "/search?token_id=70", "/neurons?q=max>0"):
            page = client.get(f"/tiny/{name}{rest}")
            assert page.status_code == 200
            assert noun in page.text
            assert "neuron " not in page.text.replace("/neurons", "").lower()
            for href in ("/tiny/search", "/tiny/1/9", "/tiny/0"):
                assert f'href="{href}"' not in page.text
        redirect = client.get(f"/tiny/{name}/1/random")
        assert redirect.headers["location"].startswith(f"/tiny/{name}/1/")
        context = client.get(f"/api/v1/models/tiny/sets/{name}/layers/1/neurons/9").json()
        shown = context["examples"]["top"][0]["context_id"]
        assert client.get(f"/tiny/{name}/1/9/contexts/{shown}").status_code == 200
        assert client.get(f"/tiny/{name}/contexts/{shown}").status_code == 200
    head = client.get("/tiny/attn_z/1/9").text
    assert "dimension 9 (1.1)" in head
    assert ", 1, 1]" in head  # the code that reads it from [batch, pos, head, d_head]
    assert client.get("/tiny/nothing/1/9").status_code == 404
    assert client.get("/tiny/1/9?run=2").status_code == 404
    assert client.get("/tiny/resid_post/1/9?run=2").status_code == 200


def test_two_sets_are_compared_and_listed(client: TestClient) -> None:
    """A comparison and a list name a unit with its set; the go-to box understands it."""
    both = client.get("/api/v1/compare?a=tiny/1/9&b=tiny/resid_post/1/9").json()
    assert [both[side]["run"]["units"]["set"] for side in "ab"] == ["neurons", "resid_post"]
    assert both["correlation"]["value"] is not None
    rows = client.get("/api/v1/list?n=tiny/1/9,tiny/attn_z/0/3,0/4,tiny/9/9").json()["items"]
    assert [row["address"] for row in rows] == [
        *("tiny/1/9", "tiny/attn_z/0/3", "tiny/attn_z/0/4", "tiny/9/9"),
    ]
    for to, path in (
        ("tiny/attn_z/1/3", "/tiny/attn_z/1/3"),
        ("tiny/attn_z", "/tiny/attn_z"),
        ("tiny/resid_post/1", "/tiny/resid_post/1"),
        ("http://host/tiny/resid_post/1/2?run=2", "/tiny/resid_post/1/2?run=2"),
    ):
        assert client.get("/go", params={"to": to}).headers["location"] == path
    there = client.get("/go", params={"to": "1/3", "model": "tiny", "set": "attn_z"})
    assert there.headers["location"] == "/tiny/attn_z/1/3"


@pytest.mark.parametrize("number", [2, 3])
def test_a_set_is_verified(indexed: Indexed, number: int) -> None:
    """Recomputed with its model, nothing differs from the store."""
    engine = open_store(indexed.url, create=False)
    _, findings = verify(engine, number, indexed.cache, Silent(), neurons=64, contexts=1000, seed=0)
    engine.dispose()
    assert findings.count == 0


def test_a_stopped_set_resumes_to_the_same_hash(
    indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle, while another set of the same model is unfinished too."""
    url = f"sqlite:///{tmp_path / 'again.db'}"
    often = Execution(checkpoint_seconds=0)
    for hook_point in ("hook_resid_post", "attn.hook_z"):
        config = replace(indexed.config, hook_point=hook_point)
        with stopped_after(monkeypatch, 5), pytest.raises(Stopped):
            index(config, url, indexed.cache, Silent(), often)
    for hook_point in ("hook_resid_post", "attn.hook_z"):
        config = replace(indexed.config, hook_point=hook_point)
        assert index(config, url, indexed.cache, Silent(), often).resumed
    assert indexed.hashes(url) == indexed.hashes()[1:]
