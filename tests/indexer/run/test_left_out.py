"""Facts that the weights do not give are left out by name before the scan, and the run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from starlette.testclient import TestClient
from torch import Tensor, nn

from app.main import create_app
from app.settings import Settings
from indexer.config import IndexConfig
from indexer.models import load
from indexer.models.load import load_model
from indexer.models.source import resolve_model
from indexer.run.index import index
from indexer.weights.effects import logit_effects
from indexer.weights.facts import LayerFacts, weight_facts
from indexer.weights.trial import try_weights
from tests.helpers.tiny_models import TEXT, VOCAB, save_tiny_model, shake, tiny_tokenizer
from tests.indexer.run.test_messages import SMALL, Notebook, url_of


class Capped(nn.Linear):
    """A projection that is no matrix: its outputs have a bound."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).clamp(-0.1, 0.1)


class Adapted(nn.Module):
    """A projection with a low-rank adapter, the base weight kept beside it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, 2, bias=False)
        self.up = nn.Linear(2, base.out_features, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        out: Tensor = self.base(input) + self.up(self.down(input))
        return out


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama on disk."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "llama", "llama")


def changed_after_loading(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[nn.Module], object]
) -> None:
    """Let a change happen to every model that is loaded, as a library's wrapper would."""
    read = load.load_causal_lm

    def and_changed(*args: Any, **kwargs: Any) -> Any:
        model, unused = read(*args, **kwargs)
        change(model)
        return model, unused

    monkeypatch.setattr(load, "load_causal_lm", and_changed)


def indexed(model: Path, here: Path) -> tuple[Notebook, TestClient]:
    """A run of a model, what it told the user, and a server of its pages."""
    text = here / "text.jsonl"
    text.write_text(json.dumps({"text": TEXT}) + "\n")
    notebook = Notebook()
    config = IndexConfig(model=str(model), corpus=str(text), name="m", **SMALL)
    index(config, url_of(here), here / "cache", notebook)
    return notebook, TestClient(create_app(Settings(database_url=url_of(here))))


def test_matrices_that_are_none_cost_no_run(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written is not known, so logit effects are left out; page and JSON say why."""

    def cap(model: Any) -> None:
        for layer in model.model.layers:
            layer.mlp.down_proj.__class__ = Capped

    changed_after_loading(monkeypatch, cap)
    notebook, client = indexed(llama, tmp_path)
    (note,) = notebook.about("are not available because")
    assert note.startswith("Note: Logit effects, cosines and connections")
    assert "Capped does not multiply its input by one matrix" in note
    with client:
        page = client.get("/api/v1/models/m/layers/1/neurons/3").json()
        html = client.get("/m/1/3").text
        layer = client.get("/m/1").text
        listed = client.get("/api/v1/models/m/layers/1/neurons").json()["items"]
    assert page["weights"]["not_available"] == note.removeprefix("Note: ")
    assert page["weights"]["logit_effects"]["top"] == []
    assert page["weights"]["inputs"][0]["top"]  # what it reads is known
    assert page["examples"]["top"]
    assert html.count("Capped does not multiply its input by one matrix") == 1
    assert {row["promoted_token"] for row in listed} == {None}
    assert "Promotes" not in layer


def test_a_fused_projection_taken_for_a_plain_one(tmp_path: Path) -> None:
    """ModernBERT's decoder: what it writes is known, how its `Wi` is divided is not."""
    settings = transformers.ModernBertDecoderConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    model = transformers.AutoModelForCausalLM.from_config(settings)
    shake(model)
    model.save_pretrained(tmp_path / "ettin")
    tiny_tokenizer().save_pretrained(tmp_path / "ettin")
    notebook, client = indexed(tmp_path / "ettin", tmp_path)
    (note,) = notebook.about("are not available because")
    assert "has 96 columns, and there are 48 of them" in note
    with client:
        weights = client.get("/api/v1/models/m/layers/1/neurons/3").json()["weights"]
    assert weights["not_available"] in note
    assert weights["inputs"] == []
    head, norm = model.decoder, model.model.final_norm.weight
    write = model.model.layers[1].mlp.Wo.weight[:, 3]
    effects = (head.weight @ ((write - write.mean()) * norm)).detach()
    best = int(effects[: VOCAB - 4].argmax())
    assert weights["logit_effects"]["top"][0]["token_id"] == best


def test_an_adapter_inside_the_model_is_part_of_its_weights(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logit effects, input tokens and links are those of the merged model."""

    def adapt(model: Any) -> None:
        torch.manual_seed(1)
        for layer in model.model.layers:
            layer.mlp.down_proj = Adapted(layer.mlp.down_proj)
            layer.mlp.gate_proj = Adapted(layer.mlp.gate_proj)
        model.lm_head = Adapted(model.lm_head)

    def merge(model: Any) -> None:
        adapt(model)
        for layer in model.model.layers:
            layer.mlp.down_proj = merged(layer.mlp.down_proj)
            layer.mlp.gate_proj = merged(layer.mlp.gate_proj)
        model.lm_head = merged(model.lm_head)

    def merged(module: Adapted) -> nn.Linear:
        with torch.no_grad():
            module.base.weight += module.up.weight @ module.down.weight
        return module.base

    def facts(change: Callable[[Any], None]) -> LayerFacts:
        with monkeypatch.context() as patch:
            changed_after_loading(patch, change)
            model = load_model(resolve_model(str(llama)))
        assert try_weights(model).missing == ()
        return weight_facts(model)(1)

    whole, apart = facts(merge), facts(adapt)
    for name, values in whole.arrays.items():
        if name.endswith("_values"):
            np.testing.assert_allclose(apart.arrays[name], values, atol=1e-4, err_msg=name)
    for name, values in whole.scalars.items():
        np.testing.assert_allclose(apart.scalars[name], values, atol=1e-3, err_msg=name)


def test_a_failure_while_writing_loses_a_layer_and_no_run(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that runs out after hours of scanning leaves that layer's facts out, and says so."""

    def failing(model: Any, layer: int, *args: Any, **kwargs: Any) -> Any:
        if layer == 1:
            raise RuntimeError("can't allocate memory")
        return logit_effects(model, layer, *args, **kwargs)

    monkeypatch.setattr("indexer.weights.facts.logit_effects", failing)
    notebook, client = indexed(llama, tmp_path)
    (warning,) = notebook.about("layer 1 are left out")
    assert "RuntimeError: can't allocate memory" in warning
    with client:
        for layer, known in ((0, True), (1, False)):
            page = client.get(f"/api/v1/models/m/layers/{layer}/neurons/3").json()
            assert bool(page["weights"]["logit_effects"]["top"]) is known
