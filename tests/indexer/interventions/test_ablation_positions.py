"""Several units ablated at chosen positions, against forward passes hooked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from indexer.demo import DICTIONARIES, MODEL_DIR
from indexer.errors import NeurariumError
from indexer.interventions import ablate_positions
from indexer.interventions.ablate_positions import (
    BASELINE,
    MEAN,
    ZERO,
    Ablated,
    PositionEffects,
    position_effects,
)
from indexer.models.asked import Asked
from indexer.models.load import load_model
from indexer.models.source import resolve_model
from tests.helpers.tiny_models import save_tiny_model, some_tokens
from tests.indexer.models.test_model_native import native_model

UNITS = [Ablated(0, 3, 0.21), Ablated(1, 7, 0.37), Ablated(1, 8, -0.4)]
AT = [2, 5, 6]
TOKENS = [1, *some_tokens(9).tolist()]
OUTS = {
    "gpt2": "transformer.h.{}.mlp.c_proj",
    "llama": "model.layers.{}.mlp.down_proj",
    "gemma2": "model.layers.{}.mlp.down_proj",  # with a softcap on its logits
    "granite": "model.layers.{}.mlp.down_proj",  # divides its logits
    "cohere": "model.layers.{}.mlp.down_proj",  # multiplies them
}


def by_hand(
    model: Any, outs: Sequence[nn.Module], row: int, units: Sequence[Ablated] = UNITS
) -> Tensor:
    """Log-probabilities [pos, d_vocab] of a plain model whose neurons are set at `AT`."""

    def setting(layer: int) -> Any:
        def change(_: Any, args: Any) -> Any:
            acts = args[0].clone()
            flat = acts.view(-1, acts.shape[-1])
            for unit in units:
                if unit.layer == layer and row != BASELINE:
                    flat[AT, unit.unit] = 0.0 if row == ZERO else unit.mean
            return (acts,)

        return change

    with ExitStack() as hooks, torch.no_grad():
        for layer, module in enumerate(outs):
            hooks.callback(module.register_forward_pre_hook(setting(layer)).remove)
        out = model(torch.tensor([TOKENS]))
    return getattr(out, "logits", out)[0].double().log_softmax(-1)


def check(found: PositionEffects, log_p: Sequence[Tensor]) -> None:
    """Losses, divergences and likeliest tokens are those of these log-probabilities."""
    base = log_p[BASELINE]
    for row in (BASELINE, ZERO, MEAN):
        losses = [-float(log_p[row][at, token]) for at, token in enumerate(TOKENS[1:])]
        assert np.isnan(found.losses[row, 0])
        np.testing.assert_allclose(found.losses[row, 1:], losses, rtol=1e-4)
        divergences = (base.exp() * (base - log_p[row])).sum(-1)
        np.testing.assert_allclose(found.divergences[row], divergences, rtol=2e-3, atol=1e-6)
        assert found.likeliest[row].tolist() == log_p[row].argmax(-1).tolist()
        highest = log_p[row].exp().amax(-1)
        np.testing.assert_allclose(found.probabilities[row], highest, rtol=1e-4)
    assert (found.divergences[1:, : AT[0]] == 0).all(), "nothing changes before the first of them"
    assert (found.divergences[1:, AT[0] :] > 0).all()


@pytest.mark.parametrize("architecture", OUTS)
def test_predictions_are_those_of_a_model_hooked_by_hand(
    tmp_path: Path, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neurons of two layers set together at three positions; also a few positions at a time."""
    folder = save_tiny_model(tmp_path, architecture)
    model = load_model(resolve_model(str(folder)))
    found = position_effects(model, UNITS, TOKENS, AT)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    outs = [plain.get_submodule(OUTS[architecture].format(layer)) for layer in (0, 1)]
    check(found, [by_hand(plain, outs, row) for row in (BASELINE, ZERO, MEAN)])
    monkeypatch.setattr(ablate_positions, "_CHUNK_BYTES", 1)
    one_by_one = position_effects(model, UNITS, TOKENS, AT)
    np.testing.assert_allclose(one_by_one.losses, found.losses, rtol=1e-5)
    np.testing.assert_allclose(one_by_one.divergences, found.divergences, rtol=1e-4, atol=1e-9)


def test_a_native_model_is_ablated() -> None:
    """The bridge's own model, whose unembedding is another module."""
    bridge, model = native_model("mlp.hook_post")
    found = position_effects(model, UNITS[:1], TOKENS, AT)
    outs = [model.units.places[0].module]  # type: ignore[union-attr]
    original = bridge.original_model
    check(found, [by_hand(original, outs, row, UNITS[:1]) for row in (BASELINE, ZERO, MEAN)])


def test_latents_of_one_layer_are_ablated_together() -> None:
    """Each loses what it added before any of them was changed, in whatever order they are named."""
    model = load_model(resolve_model("demo"), asked=Asked(dictionary=str(DICTIONARIES[0])))
    tokens = [0, 818, 278, 8, 88, 422, 343, 458, 616]
    dictionary = model.units.dictionaries[0]  # type: ignore[attr-defined]
    plain: Any = transformers.AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval()
    with torch.no_grad():
        stream = plain(torch.tensor([tokens]), output_hidden_states=True).hidden_states[1][0]
        acts = dictionary.encode(stream)
    at = int(acts[1:].amax(1).argmax()) + 1
    pair = [Ablated(0, int(unit), 0.0) for unit in acts[at].topk(2).indices]
    lost = sum(acts[at, one.unit] * dictionary.W_dec[one.unit] for one in pair)

    def change(_: Any, _args: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        first = first.clone()
        first.view(-1, first.shape[-1])[at] -= lost
        return (first, *output[1:]) if isinstance(output, tuple) else first

    handle = plain.transformer.h[0].register_forward_hook(change)
    with torch.no_grad():
        log_p = plain(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    handle.remove()
    truth = [-float(log_p[i, token]) for i, token in enumerate(tokens[1:])]
    for order in (pair, pair[::-1]):
        found = position_effects(model, order, tokens, [at])
        np.testing.assert_allclose(found.losses[ZERO, 1:], truth, rtol=1e-4)
    transcoder = load_model(resolve_model("demo"), asked=Asked(dictionary=str(DICTIONARIES[1])))
    with pytest.raises(NeurariumError, match="no direction there"):
        position_effects(transcoder, [Ablated(1, 0, 0.0)], tokens, [at])
