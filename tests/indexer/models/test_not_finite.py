"""Numbers that are not finite, in weights and in activations: one line, with advice that fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from indexer.errors import NeurariumError
from indexer.models.asked import Asked
from indexer.models.finite import not_finite
from indexer.models.load import load_model
from indexer.models.source import resolve_model
from tests.helpers.tiny_models import VOCAB, save_tiny_model


def spoil(model: Any, change: Callable[[Any], None]) -> None:
    with torch.no_grad():
        change(model)


def unembedding(model: Any) -> None:
    model.lm_head.weight[20, 3] = torch.inf


def embedding(model: Any) -> None:
    model.model.embed_tokens.weight[7] = torch.nan


def attention(model: Any) -> None:
    model.model.layers[1].self_attn.q_proj.weight[0, 0] = -torch.inf


def norm(model: Any) -> None:
    model.model.norm.weight[5] = torch.nan


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama on disk."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "m", "llama")


def save_changed(saved: Path, folder: Path, change: Callable[[Any], None]) -> Path:
    """A copy of the model whose weights were changed."""
    model = transformers.AutoModelForCausalLM.from_pretrained(saved)
    spoil(model, change)
    model.save_pretrained(folder)
    for path in saved.glob("token*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("change", [unembedding, embedding, attention, norm])
def test_weights_that_are_not_finite_are_refused(
    saved: Path, tmp_path: Path, change: Callable[[Any], None]
) -> None:
    """By the name of the weight, wherever it is in the model."""
    folder = save_changed(saved, tmp_path / "m", change)
    with pytest.raises(NeurariumError, match=r"not finite in float32.*damaged") as caught:
        load_model(resolve_model(str(folder)))
    assert "\n" not in str(caught.value)


def test_rows_of_no_token_may_hold_anything(saved: Path, tmp_path: Path) -> None:
    """The embedding's padding is read for no text."""

    def padding(model: Any) -> None:
        model.lm_head.weight[VOCAB - 1] = torch.nan
        model.model.embed_tokens.weight[VOCAB - 1] = torch.nan

    folder = save_changed(saved, tmp_path / "m", padding)
    assert load_model(resolve_model(str(folder))).known_tokens == VOCAB - 4


def test_weights_too_large_for_the_dtype_name_another(saved: Path, tmp_path: Path) -> None:
    """The checkpoint is sound: the number format is not."""

    def large(model: Any) -> None:
        model.model.norm.weight[5] = 1e6

    folder = save_changed(saved, tmp_path / "m", large)
    with pytest.raises(NeurariumError, match=r"model\.norm\.weight.*--dtype bfloat16 or float32"):
        load_model(resolve_model(str(folder)), dtype="float16")
    assert load_model(resolve_model(str(folder)), dtype="bfloat16").dtype is torch.bfloat16


@pytest.mark.parametrize("hook_point", ["mlp.hook_post", "mlp.hook_pre"])
def test_activations_too_large_are_refused_while_loading(
    saved: Path, tmp_path: Path, hook_point: str
) -> None:
    """Gated or not, whatever is captured: the first tokens tell."""

    def large(model: Any) -> None:
        for layer in model.model.layers:
            layer.mlp.up_proj.weight *= 30_000
            layer.mlp.gate_proj.weight *= 30_000

    folder = save_changed(saved, tmp_path / "m", large)
    with pytest.raises(NeurariumError, match=r"layer [01] \(float16\).*--dtype bfloat16"):
        load_model(resolve_model(str(folder)), dtype="float16", asked=Asked(hook_point))


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        (torch.float16, "choose --dtype bfloat16 or float32"),
        (torch.bfloat16, "choose --dtype float32 or"),
        (torch.float32, "the weights of the model are damaged"),
    ],
)
def test_the_advice_is_not_what_is_done_already(dtype: torch.dtype, advice: str) -> None:
    """A larger dtype, where there is one."""
    message = str(not_finite(3, dtype))
    assert advice in message
    assert "layer 3" in message
    assert f"--dtype {str(dtype).removeprefix('torch.')}" not in message
