"""Verification's plain forward pass gives the same activations as the model's capture; and the
choice of its batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from indexer.captured import Captured
from indexer.corpus.batches import Batch, BatchPlan, plan_batches
from indexer.errors import NeurariumError
from indexer.models.asked import Asked
from indexer.models.load import load_model
from indexer.models.loaded import LoadedModel
from indexer.models.source import resolve_model
from indexer.verify.choice import unpadded, whole_batches
from indexer.verify.forward import LayerActivations, forward
from tests.helpers.tiny_models import save_tiny_model, some_tokens
from tests.indexer.models.test_model_native import native_model


def some_batch() -> Batch:
    """Two contexts, the second padded."""
    tokens = some_tokens(2, 9).numpy()
    attention = np.ones((2, 9), np.bool_)
    attention[1, 6:] = False
    included = attention.copy()
    included[:, 0] = False
    return Batch("rest", np.array([4, 7]), tokens, attention, included)


def both(model: LoadedModel) -> tuple[list[LayerActivations], list[Captured]]:
    """Activations of all layers, from verification and from the model's capture."""
    batch = some_batch()
    seen: list[LayerActivations] = []
    captured: list[Captured] = []

    def keep(layer: int, given: Captured) -> None:
        parts = [None if part is None else part.clone() for part in (given.gate, given.linear)]
        captured.append(Captured(given.activations.clone(), *parts))

    def look(layer: int, given: LayerActivations) -> None:
        assert layer == len(seen)
        seen.append(given)

    forward(model, batch, look)
    model.capture(torch.from_numpy(batch.tokens), torch.from_numpy(batch.attention), keep)
    assert len(seen) == len(captured) == model.layout.n_layers
    return seen, captured


def check(model: LoadedModel) -> None:
    """Equal activations, gates and linear parts at attended positions."""
    attention = some_batch().attention
    for plain, expected in zip(*both(model), strict=True):
        wanted = expected.activations.numpy()
        assert plain.activations.shape == wanted.shape
        np.testing.assert_array_equal(plain.activations[attention], wanted[attention])
        for part, meant in ((plain.gate, expected.gate), (plain.linear, expected.linear)):
            assert (part is None) == (meant is None)
            if part is not None and meant is not None:
                np.testing.assert_array_equal(part.numpy()[attention], meant.numpy()[attention])


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "phi3", "opt", "gpt_neox", "gemma2"])
@pytest.mark.parametrize("hook_point", ["mlp.hook_post", "mlp.hook_pre"])
def test_a_plain_forward_sees_what_is_captured(
    tmp_path: Path, architecture: str, hook_point: str
) -> None:
    """For gated, fused and flattened MLPs, and with norms around the MLP."""
    folder = save_tiny_model(tmp_path / architecture, architecture)
    check(load_model(resolve_model(str(folder)), asked=Asked(hook_point)))


@pytest.mark.parametrize(
    ("hook_point", "changes"),
    [
        ("mlp.ln.hook_in", {}),
        ("mlp.hook_pre", {}),
        ("mlp.hook_post", {}),
        ("mlp.hook_post", {"act_fn": "silu", "gated_mlp": True, "normalization_type": "RMS"}),
    ],
)
def test_a_plain_forward_sees_what_a_native_model_gives(
    hook_point: str, changes: dict[str, Any]
) -> None:
    """TransformerLens's own models, SoLU before the LayerNorm in its MLPs."""
    check(native_model(hook_point, **changes)[1])


def test_no_hook_stays_behind(tmp_path: Path) -> None:
    """No hooks remain after a pass, even a failed one."""
    model = load_model(resolve_model(str(save_tiny_model(tmp_path / "llama", "llama"))))

    def broken(layer: int, seen: LayerActivations) -> None:
        raise NeurariumError("enough")

    with pytest.raises(NeurariumError, match="enough"):
        forward(model, some_batch(), broken)
    hooks = [m._forward_hooks or m._forward_pre_hooks for m in model.root.modules()]
    assert not any(hooks)


def test_too_little_memory_is_one_line(tmp_path: Path) -> None:
    """A batch that does not fit into memory is a clear error."""
    model = load_model(resolve_model(str(save_tiny_model(tmp_path / "gpt2", "gpt2"))))

    def greedy(layer: int, seen: LayerActivations) -> None:
        raise MemoryError

    with pytest.raises(NeurariumError, match="not enough memory on cpu for 2 × 9 tokens"):
        forward(model, some_batch(), greedy)


# --- Which batches -------------------------------------------------------------------------------


def test_contexts_of_one_length_are_batched_together() -> None:
    """Every context once, no padding, no more positions than allowed."""
    lengths = np.random.default_rng(0).integers(2, 12, 300)
    ids = np.arange(0, 300, 2)
    plans = unpadded(ids, lengths, batch_tokens=40)
    assert np.array_equal(np.sort(np.concatenate([p.context_ids for p in plans])), ids)
    for plan in plans:
        (length,) = set(lengths[plan.context_ids].tolist())
        assert len(plan.context_ids) * length <= 40
    assert len(unpadded(ids, lengths, batch_tokens=3)) == len(ids)


def some_plans(contexts: int) -> list[BatchPlan]:
    """The batches of a run, eight contexts each."""
    lengths = np.full(contexts, 16)
    return list(plan_batches(lengths, np.arange(64), batch_tokens=128))


def test_whole_batches_have_an_end() -> None:
    """At most as many contexts are run as there are random contexts and contexts with examples."""
    plans = some_plans(8000)
    rng = np.random.default_rng(0)
    examples = {int(c): 1 for c in rng.choice(8000, 400, replace=False)}
    examples |= dict.fromkeys(range(32, 47), 50)  # random examples: the same for every neuron
    chosen = whole_batches(plans, examples, 200, rng)
    ids = np.concatenate([plan.context_ids for plan in chosen])
    assert 400 <= len(ids) <= 200 + len(examples) + 2 * 8
    assert set(range(32, 47)) <= set(ids.tolist())
    known = {tuple(plan.context_ids.tolist()) for plan in plans}
    assert all(tuple(plan.context_ids.tolist()) in known for plan in chosen)


def test_whole_batches_are_drawn() -> None:
    """Random batches differ; with enough contexts requested, all batches are run."""
    plans = some_plans(800)
    chosen = [
        {
            int(plan.context_ids[0])
            for plan in whole_batches(plans, {}, 80, np.random.default_rng(s))
        }
        for s in (1, 1, 2)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(chosen[0]) == 10
    assert len(whole_batches(plans, {}, 10_000, np.random.default_rng(0))) == len(plans)
