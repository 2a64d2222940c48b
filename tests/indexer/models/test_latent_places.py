"""Dictionaries at every place of a model: read, spliced in and written as plain PyTorch does it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
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
from indexer.models.units import Unknown, Writes
from indexer.run.quality import measure
from tests.helpers.dictionary_files import K, relu_less, save_own, some, topk, weights
from tests.helpers.tiny_models import WIDTH, save_tiny_model, some_tokens

LATENTS, HEADS, D_HEAD, D_MLP = 12, 4, 8, 48
TOKENS = some_tokens(2, 8)
INCLUDED = torch.ones(2, 8, dtype=torch.bool)
INCLUDED[:, 0] = False
_LAYER = "model.layers.1"
LLAMA = {
    "hook_embed": ("model.embed_tokens", "output", WIDTH),
    "attn.hook_q": (f"{_LAYER}.self_attn.q_proj", "output", HEADS * D_HEAD),
    "attn.hook_k": (f"{_LAYER}.self_attn.k_proj", "output", HEADS * D_HEAD // 2),
    "attn.hook_v": (f"{_LAYER}.self_attn.v_proj", "output", HEADS * D_HEAD // 2),
    "attn.hook_z": (f"{_LAYER}.self_attn.o_proj", "input", HEADS * D_HEAD),
    "mlp.hook_pre": (f"{_LAYER}.mlp.gate_proj", "output", D_MLP),
    "mlp.hook_pre_linear": (f"{_LAYER}.mlp.up_proj", "output", D_MLP),
    "mlp.hook_post": (f"{_LAYER}.mlp.down_proj", "input", D_MLP),
}
"""Modules of a llama, and the widths there."""


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where a tiny model of an architecture is saved; each is made once."""

    @cache
    def folder(architecture: str) -> Path:
        return save_tiny_model(tmp_path_factory.mktemp(architecture), architecture)

    return folder


@contextlib.contextmanager
def changed(
    model: Any, module: str, side: str, columns: Tensor, change: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """`change` replaces the columns of a module's input or output."""

    def new(values: Tensor) -> Tensor:
        values = values.clone()
        values[..., columns] = change(values[..., columns])
        return values

    own = model.get_submodule(module)
    if side == "input":
        handle = own.register_forward_pre_hook(lambda _m, args: (new(args[0]), *args[1:]))
    else:
        handle = own.register_forward_hook(lambda _m, _args, out: new(out))
    try:
        yield
    finally:
        handle.remove()


def loss(model: Any) -> float:
    """The mean loss of the included tokens."""
    with torch.no_grad():
        log_p = model(TOKENS).logits[:, :-1].log_softmax(-1)
    losses = -log_p.gather(-1, TOKENS[:, 1:, None])[..., 0]
    return float(losses[INCLUDED[:, 1:]].mean())


def check_everything(
    folder: Path, tmp_path: Path, point: str, module: str, side: str, columns: Tensor
) -> Any:
    """Activations, variance unexplained, L0 and losses at a place are those of the plain model
    hooked by hand; returns the loaded model."""
    w = weights(3, len(columns), LATENTS)
    hook = point if point == "hook_embed" else f"blocks.1.{point}"
    path = save_own(
        tmp_path / "one.safetensors",
        some(w, "W_enc", "b_enc", "W_dec", "b_dec"),
        hook_point=hook,
        activation="relu",
    )
    loaded = load_model(resolve_model(str(folder)), asked=Asked(dictionary=str(path)))
    units: Any = loaded.units
    layer = 0 if point == "hook_embed" else 1
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)

    def reconstruct(x: Tensor) -> Tensor:
        return relu_less(x, w) @ w["W_dec"] + w["b_dec"]

    seen: list[Tensor] = []
    with changed(plain, module, side, columns, lambda x: (seen.append(x), x)[1]):
        own_loss = loss(plain)
    acts: list[Tensor] = []
    loaded.capture(
        TOKENS,
        torch.ones_like(TOKENS),
        lambda at, captured: acts.append(captured.activations.clone()) if at == layer else None,
    )
    torch.testing.assert_close(acts[0], relu_less(seen[0], w), rtol=1e-4, atol=1e-4)
    batch = Batch(
        *("first_half", np.arange(2), TOKENS.numpy()),
        *(np.ones((2, 8), np.bool_), INCLUDED.numpy()),
    )
    (quality,) = measure(loaded, units, [batch])
    x = seen[0][INCLUDED]
    fvu = (reconstruct(x) - x).square().sum() / (x - x.mean(0)).square().sum()
    assert quality.fvu == pytest.approx(float(fvu), rel=1e-3)
    assert quality.l0 == pytest.approx(float((relu_less(x, w) > 0).float().sum(-1).mean()))
    assert quality.loss == pytest.approx(own_loss, rel=1e-4)
    for got, instead in (
        (quality.loss_with_reconstruction, reconstruct),
        (quality.loss_with_zeros, torch.zeros_like),
    ):

        def only_included(x: Tensor, instead: Any = instead) -> Tensor:
            return torch.where(INCLUDED[..., None], instead(x), x)

        with changed(plain, module, side, columns, only_included):
            expected = loss(plain)
        assert abs(expected - own_loss) > 1e-4
        assert got == pytest.approx(expected, rel=1e-4)
    return loaded


@pytest.mark.parametrize("point", LLAMA)
def test_dictionaries_are_read_and_spliced_in_anywhere(
    folder_of: Callable[[str], Path], tmp_path: Path, point: str
) -> None:
    """What they write follows from the place; where it does not, there is a reason."""
    module, side, width = LLAMA[point]
    loaded = check_everything(
        folder_of("llama"), tmp_path, point, module, side, torch.arange(width)
    )
    layer = 0 if point == "hook_embed" else 1
    writes = loaded.units.writes(layer)
    W_dec = weights(3, width, LATENTS)["W_dec"]
    if point == "hook_embed":
        assert loaded.units.described.blocks == 2
        torch.testing.assert_close(writes.vectors, W_dec)
    elif side == "input":
        assert isinstance(writes, Writes)
        through = loaded.root.get_submodule(module).weight.detach()
        torch.testing.assert_close(writes.vectors, W_dec @ through.T, rtol=1e-4, atol=1e-5)
        assert loaded.units.described.no_writes == ""
    else:
        assert isinstance(writes, Unknown)
        assert loaded.units.described.no_writes == writes.reason
        assert "nothing itself" in writes.reason or "no logit effects" in writes.reason


@pytest.mark.parametrize("which", range(3), ids="qkv")
def test_a_part_of_a_fused_projection(
    folder_of: Callable[[str], Path], tmp_path: Path, which: int
) -> None:
    """GPT-NeoX has each head's query, key and value side by side in one matrix."""
    columns = torch.arange(3 * WIDTH).view(HEADS, 3, D_HEAD)[:, which].flatten()
    module = "gpt_neox.layers.1.attention.query_key_value"
    point = f"attn.hook_{'qkv'[which]}"
    check_everything(folder_of("gpt_neox"), tmp_path, point, module, "output", columns)


@pytest.mark.parametrize(
    ("point", "module", "norm"),
    [
        ("attn.hook_z", "self_attn.o_proj", "post_attention_layernorm"),
        ("mlp.hook_post", "mlp.down_proj", "post_feedforward_layernorm"),
    ],
)
def test_what_is_written_passes_the_norm_behind_it(
    folder_of: Callable[[str], Path], tmp_path: Path, point: str, module: str, norm: str
) -> None:
    """Gemma 2 normalises what attention and MLP add; the norm's weight counts, its scale is left
    to the input."""
    width = HEADS * D_HEAD if point == "attn.hook_z" else D_MLP
    w = weights(3, width, LATENTS)
    path = save_own(
        tmp_path / "one.safetensors",
        some(w, "W_enc", "W_dec"),
        hook_point=f"blocks.1.{point}",
        activation="topk",
        k=str(K),
    )
    source = resolve_model(str(folder_of("gemma2")))
    loaded = load_model(source, asked=Asked(dictionary=str(path)))
    block = loaded.root.model.layers[1]
    gain = 1 + getattr(block, norm).weight.detach()
    written = w["W_dec"] @ block.get_submodule(module).weight.detach().T * gain
    writes = loaded.units.writes(1)
    torch.testing.assert_close(writes.vectors, written, rtol=1e-4, atol=1e-5)
    assert writes.outer_norm is getattr(block, norm)
    zeros = {"b_enc": torch.zeros(LATENTS)}
    seen = torch.randn(1, 4, width, generator=torch.Generator().manual_seed(0))
    expected = topk(seen, w | zeros)
    acts = loaded.units.captured(1, seen, ()).activations
    torch.testing.assert_close(acts, expected, rtol=1e-4, atol=1e-5)
