"""A dictionary that is read wrongly: the cause that is named is the one that sets it right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from indexer.corpus.batches import Batch
from indexer.models.asked import Asked
from indexer.models.load import load_model
from indexer.models.source import resolve_model
from indexer.run.dictionaries import likeliest, problem_of
from indexer.run.quality import measure
from tests.helpers.dictionary_files import save_own
from tests.helpers.tiny_models import WIDTH, save_tiny_model, some_tokens

ROWS, LENGTH, BOS = 2, 8, 1
HOOK = "blocks.0.hook_resid_post"
TOKENS = some_tokens(ROWS * LENGTH).reshape(ROWS, LENGTH).numpy()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model on disk."""
    return save_tiny_model(tmp_path_factory.mktemp("causes") / "llama", "llama")


def smaller(tiny: Path, folder: Path) -> Path:
    """The model with all that is written to its residual stream a hundredth as large."""
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny)
    with torch.no_grad():
        model.model.embed_tokens.weight *= 0.01
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight *= 0.01
            layer.mlp.down_proj.weight *= 0.01
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return folder


def batch_of(*, bos: bool) -> Batch:
    """The same texts, with a BOS in front or without."""
    tokens = np.hstack([np.full((ROWS, 1), BOS), TOKENS]) if bos else TOKENS
    included = np.ones(tokens.shape, np.bool_)
    included[:, 0] = not bos
    every = np.ones(tokens.shape, np.bool_)
    return Batch("first_half", np.arange(ROWS), tokens, every, included)


def stream(model: Any, batch: Batch) -> Tensor:
    """What is after the first block at included positions."""
    seen: list[Tensor] = []
    block = model.root.model.layers[0]
    handle = block.register_forward_hook(
        lambda _m, _a, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        model.root(torch.from_numpy(batch.tokens))
    handle.remove()
    return seen[0].reshape(*batch.tokens.shape, WIDTH)[torch.from_numpy(batch.included)]


def both_ways(**more: Tensor) -> dict[str, Tensor]:
    """A dictionary of each dimension and its opposite, which reconstructs everything."""
    ways = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)])
    return {"W_enc": ways.T.contiguous(), "W_dec": ways, "b_dec": torch.zeros(WIDTH), **more}


@pytest.mark.parametrize("cause", ["b_dec", "norm", "bos", "no_bos", "nothing"])
def test_the_cause_is_the_one_that_sets_it_right(tiny: Path, tmp_path: Path, cause: str) -> None:
    """Its b_dec was to be subtracted, its inputs to be normalised, a BOS to stand in front or not
    to."""
    path = tiny if cause != "norm" else smaller(tiny, tmp_path / "small")
    plain = load_model(resolve_model(str(path)), asked=Asked())
    batch = batch_of(bos=cause != "bos")
    values = stream(plain, batch)
    said = {"activation": "relu"}
    if cause == "b_dec":
        tensors = both_ways(b_dec=9.0 + torch.rand(WIDTH))
        said["apply_b_dec_to_input"] = "false"
        expected = "b_dec is most likely to be subtracted (then 0.0%"
    elif cause == "norm":
        high = 1.05 * float(values.abs().max())
        assert high < 0.4, "normalised values, of size 1, must be far above it"
        tensors = both_ways(threshold=torch.full((2 * WIDTH,), high))
        said = {"activation": "jumprelu"}
        expected = "It is most likely for normalised inputs"
    elif cause in ("bos", "no_bos"):
        seen = stream(plain, batch_of(bos=cause == "bos"))
        tensors = {"W_enc": torch.linalg.pinv(seen), "W_dec": seen, "b_dec": torch.zeros(WIDTH)}
        tensors["threshold"] = torch.full((len(seen),), 0.99)
        said = {"activation": "jumprelu"}
        expected = "made on texts with a BOS in front, and these have none (then 0.0%"
        if cause == "no_bos":
            expected = "made on texts without a BOS: try --no-bos (then 0.0%"
    else:
        tensors = both_ways(b_dec=torch.zeros(WIDTH))
        tensors["W_dec"] = -5 * tensors["W_dec"]
        expected = "another model or another hook point"
    file = save_own(tmp_path / "one.safetensors", tensors, hook_point=HOOK, l0="16", **said)
    model = load_model(resolve_model(str(path)), asked=Asked(dictionary=str(file)))
    units: Any = model.units
    (quality,) = measure(model, units, [batch])
    assert problem_of(quality) is not None
    assert expected in likeliest(model, units, quality, batch)
