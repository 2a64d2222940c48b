"""`neurarium.index`: a model in memory gives the run that the command gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

import neurarium
from indexer.config import IndexConfig
from indexer.run.index import index
from tests.conftest import Silent
from tests.helpers.tiny_models import TEXT, save_tiny_model

OPTIONS: dict[str, Any] = {"ctx_len": 32, "sample": 64, "top_k": 5}


class Case:
    """A model and texts on disk and in memory, and the command's run of them."""

    def __init__(self, folder: Path) -> None:
        self.database = f"sqlite:///{folder / 'store.db'}"
        self.folder = save_tiny_model(folder / "model", "llama")
        self.texts = [
            {"text": f"{TEXT * 2}{number}", "source": "ab"[number % 2]} for number in range(40)
        ]
        corpus = folder / "corpus.jsonl"
        corpus.write_text("\n".join(map(json.dumps, self.texts)))
        config = IndexConfig(model=str(self.folder), corpus=str(corpus), name="file", **OPTIONS)
        index(config, self.database, folder / "cache", Silent())
        self.hash = neurarium.open(self.database).model("file").run.content_hash
        self.model = transformers.AutoModelForCausalLM.from_pretrained(self.folder)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder)

    def index(self, model: Any, texts: Any, name: str, **options: Any) -> Any:
        """The run of a model in memory."""
        given = OPTIONS | {"progress": False, "database": self.database} | options
        return neurarium.index(model, self.tokenizer, texts, name=name, **given)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The case, with a cache of its own."""
    folder = tmp_path_factory.mktemp("indexing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEURARIUM_CACHE_DIR", str(folder / "cache"))
        yield Case(folder)


def test_a_model_in_memory_gives_the_commands_run(case: Case) -> None:
    """Dictionaries, a generator and a data set: the command's content hash; the model is as it
    was."""
    case.model.train()
    run = case.index(case.model, case.texts, "memory")
    assert run.run.content_hash == case.hash
    assert case.model.training
    assert run.run.provenance["model"]["in_memory"]
    assert case.index(case.model, iter(case.texts), "iterator").run.content_hash == case.hash
    frame = datasets.Dataset.from_list(case.texts)
    assert case.index(case.model, frame, "dataset").run.content_hash == case.hash


def test_a_bridge_gives_the_same_run(case: Case) -> None:
    """A TransformerBridge is read as the model it was made of."""
    bridge = TransformerBridge.boot_transformers(
        str(case.folder), device="cpu", dtype=torch.float32
    )
    assert case.index(bridge, case.texts, "bridge").run.content_hash == case.hash


def test_a_native_bridge_gives_what_it_caches(case: Case) -> None:
    """A bridge of TransformerLens's own model: the largest values in its cache are the run's; it
    is as it was."""
    bridge = TransformerBridge.boot_native(
        TransformerBridgeConfig(
            d_model=16,
            d_head=8,
            n_heads=2,
            n_layers=2,
            n_ctx=32,
            d_mlp=24,
            d_vocab=len(case.tokenizer),
            act_fn="gelu",
            normalization_type="LN",
            seed=0,
            architecture="TransformerLensNative",
        )
    )
    bridge.train()
    before = {name: value.clone() for name, value in bridge.state_dict().items()}
    rows = np.random.default_rng(0).integers(2, 300, (30, 20))
    run = case.index(bridge, rows, "native")
    assert run.run.hook_point == "mlp.hook_post"
    assert bridge.training
    assert all(torch.equal(before[name], value) for name, value in bridge.state_dict().items())
    _, cache = bridge.eval().run_with_cache(torch.tensor(rows))
    for layer in (0, 1):
        peaks = cache[f"blocks.{layer}.mlp.hook_post"].amax((0, 1)).detach().numpy()
        found = [row.max for row in run.layer(layer)]
        np.testing.assert_allclose(found, peaks, rtol=1e-5, atol=1e-6)
    bridge.compatibility_mode = True
    with pytest.raises(neurarium.NeurariumError, match="in compatibility mode"):
        case.index(bridge, rows, "compatible")


def test_strings_and_token_ids(case: Case) -> None:
    """Strings have the source that is named; rows of token ids are read as such."""
    strings = case.index(case.model, [row["text"] for row in case.texts], "strings", source="mine")
    assert strings.neuron(0, 0).top[0].data.source == "mine"
    rows = np.random.default_rng(0).integers(2, 300, (40, 20))
    run = case.index(case.model, rows, "ids")
    assert run.page.run.contexts == 40
    assert run.neuron(1, 1).top[0].token_ids.tolist() in rows.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k is 0: it must be 1 or more"),
        ({"hook_point": "mlp.nowhere"}, "There is no hook point 'mlp.nowhere'"),
        ({"ctx_len": 1000}, "has 64 positions"),
        ({"device": "cuda"}, "device is no option here"),
        ({"topk": 3}, "There is no option 'topk'"),
        ({"neurons": True}, "several sets of units to neurarium.index_sets"),
        ({"heads": True, "dictionary": "a"}, "several sets of units to neurarium.index_sets"),
        ({"dictionary": ["a", "b"]}, "several sets of units to neurarium.index_sets"),
    ],
)
def test_options_are_the_commands(case: Case, options: dict[str, Any], message: str) -> None:
    """A wrong option is refused with the command's words, before anything is computed."""
    with pytest.raises(neurarium.NeurariumError, match=message):
        case.index(case.model, case.texts, "wrong", **options)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", "texts is one text"),
        ([3], "Text 0 is int, not a text"),
        ([{"words": 3}], "no column looks like the text"),
    ],
)
def test_texts_that_are_none(case: Case, texts: Any, message: str) -> None:
    """What is no text is refused in one line."""
    with pytest.raises(neurarium.NeurariumError, match=message):
        case.index(case.model, texts, "wrong")


def test_other_models_and_names(case: Case) -> None:
    """A module that is no language model, and a name that is no address, are refused."""
    with pytest.raises(neurarium.NeurariumError, match="is Linear: give a transformers"):
        case.index(torch.nn.Linear(2, 2), case.texts, "linear")
    with pytest.raises(neurarium.NeurariumError, match="cannot be used in URLs"):
        case.index(case.model, case.texts, "a b")
