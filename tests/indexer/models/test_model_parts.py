"""Gates and linear parts of gated models: what comes beside the activations they make."""

from __future__ import annotations

import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from indexer.captured import Captured
from indexer.config import IndexConfig
from indexer.models.asked import Asked
from indexer.models.load import load_model
from indexer.models.loaded import LoadedModel
from indexer.models.source import resolve_model
from indexer.run.plan import describe_plan, make_plan
from indexer.scan.shape import ScanShape
from tests.helpers.tiny_models import LAYERS, save_tiny_model, some_tokens
from tests.indexer.models.test_model_native import native_model

silu, gelu_tanh = nn.functional.silu, nn.GELU("tanh")

GATED: dict[str, Any] = {
    "llama": silu,
    "mistral": silu,
    "qwen2": silu,
    "qwen3": silu,
    "gemma2": gelu_tanh,
    "gemma3": gelu_tanh,
    "olmo2": silu,
    "granite": silu,
    "cohere": silu,
    "phi3": silu,
}
"""Gated architectures and what each puts its gate through, written down by hand."""


def handed_over(model: LoadedModel, tokens: Tensor) -> list[Captured]:
    """All that a model gives of each layer, copied."""
    seen: list[Captured] = []

    def keep(_layer: int, captured: Captured) -> None:
        parts = (captured.activations, captured.gate, captured.linear)
        seen.append(Captured(*(None if part is None else part.clone() for part in parts)))

    model.capture(tokens, torch.ones_like(tokens), keep)
    return seen


@pytest.mark.parametrize("architecture", GATED)
def test_a_gate_times_its_linear_part_is_the_activation(tmp_path: Path, architecture: str) -> None:
    """act(gate) · linear is what is captured, and the parts are those of the plain modules."""
    folder = save_tiny_model(tmp_path / architecture, architecture)
    model = load_model(resolve_model(str(folder)))
    assert model.units.has_parts
    root: Any = model.root
    mlps = [block.mlp for block in root.model.layers]
    projected: list[Tensor] = []
    for mlp in mlps:
        names = ("gate_up_proj",) if architecture == "phi3" else ("gate_proj", "up_proj")
        for name in names:
            getattr(mlp, name).register_forward_hook(lambda _m, _i, out: projected.append(out))
    layers = handed_over(model, some_tokens(3, 11))
    assert len(layers) == LAYERS
    for layer, captured in enumerate(layers):
        gate, linear = captured.gate, captured.linear
        assert gate is not None
        assert linear is not None
        assert gate.shape == linear.shape == captured.activations.shape
        torch.testing.assert_close(GATED[architecture](gate) * linear, captured.activations)
        if architecture == "phi3":
            truth = projected[layer].split(gate.shape[-1], dim=-1)
        else:
            truth = tuple(projected[2 * layer : 2 * layer + 2])
        assert torch.equal(gate, truth[0])
        assert torch.equal(linear, truth[1])


def test_a_native_models_parts_are_its_bridges() -> None:
    """TransformerLens's own gated models: the parts its bridge caches under their names."""
    changes = {"act_fn": "silu", "gated_mlp": True, "normalization_type": "RMS"}
    bridge, model = native_model("mlp.hook_post", **changes)
    tokens = some_tokens(1, 8)
    layers = handed_over(model, tokens)
    _, cache = bridge.run_with_cache(tokens)
    for layer, captured in enumerate(layers):
        assert captured.gate is not None
        torch.testing.assert_close(captured.gate, cache[f"blocks.{layer}.mlp.gate.hook_out"])
        torch.testing.assert_close(captured.linear, cache[f"blocks.{layer}.mlp.in.hook_out"])


@pytest.mark.parametrize(
    ("architecture", "hook_point"), [("gpt2", "mlp.hook_post"), ("llama", "mlp.hook_pre")]
)
def test_what_is_no_product_has_no_parts(
    tmp_path: Path, architecture: str, hook_point: str
) -> None:
    """A plain MLP has no gate, and a gate alone is not made of two parts."""
    folder = save_tiny_model(tmp_path / architecture, architecture)
    model = load_model(resolve_model(str(folder)), asked=Asked(hook_point))
    assert not model.units.has_parts
    for captured in handed_over(model, some_tokens(2, 5)):
        assert captured.gate is None
        assert captured.linear is None


def test_parts_that_do_not_make_the_activation_are_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a model does more to its gate than its nonlinearity, the parts count as unknown."""
    from transformers.models.llama.modeling_llama import LlamaMLP

    def scaled(self: Any, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.act_fn(2.5 * self.gate_proj(x)) * self.up_proj(x))
        return out

    folder = save_tiny_model(tmp_path / "llama", "llama")
    plain = load_model(resolve_model(str(folder)))
    monkeypatch.setattr(LlamaMLP, "forward", scaled)
    model = load_model(resolve_model(str(folder)))
    assert plain.units.has_parts
    assert not model.units.has_parts
    assert model.units.widths == plain.units.widths
    assert all(captured.gate is None for captured in handed_over(model, some_tokens(1, 4)))
    assert "gates and linear parts unknown" in planned(model)
    assert "unknown" not in planned(plain)


def planned(model: LoadedModel) -> str:
    """What a user is told before a run of a small corpus."""
    corpus: Any = SimpleNamespace(
        contexts=9, included_tokens=90, ctx_len=16, duplicates=0, broken_lines=0
    )
    corpus.label, corpus.pretokenized = "text", False
    shape = ScanShape(model.units.widths, np.arange(4), 2, 2, 16)
    job: Any = SimpleNamespace(name="tiny", model=model, corpus=corpus, shape=shape)
    plan = make_plan(job)
    return describe_plan(plan, IndexConfig(model="tiny", ctx_len=16), model, corpus, "store")


def test_a_nonlinearity_the_module_does_not_hold_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An MLP that calls its nonlinearity by name (as LFM 2's does) has parts all the same."""
    from transformers.models.llama.modeling_llama import LlamaMLP

    def forward(self: Any, x: Tensor) -> Tensor:
        self.__dict__["_modules"].pop("act_fn", None)
        out: Tensor = self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))
        return out

    folder = save_tiny_model(tmp_path / "llama", "llama")
    monkeypatch.setattr(LlamaMLP, "forward", forward)
    model = load_model(resolve_model(str(folder)))
    assert not hasattr(model.root.get_submodule("model.layers.0.mlp"), "act_fn")
    assert model.units.has_parts


def test_nothing_is_held_beyond_its_layer(tmp_path: Path) -> None:
    """When a layer is over, its parts are gone: memory is that of one layer, not of all."""
    model = load_model(resolve_model(str(save_tiny_model(tmp_path / "llama", "llama"))))
    seen: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def look(_layer: int, captured: Captured) -> None:
        alive.append(sum(ref() is not None for ref in seen))
        for part in (captured.gate, captured.linear):
            assert part is not None
            seen.append(weakref.ref(part))

    tokens = some_tokens(1, 4)
    model.capture(tokens, torch.ones_like(tokens), look)
    assert alive == [0] * LAYERS
    assert [ref() for ref in seen] == [None] * 2 * LAYERS
