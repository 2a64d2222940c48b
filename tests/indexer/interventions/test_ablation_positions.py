"""Several units ablated at chosen positions, against forward passes hooked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
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
from indexer.interventions.ablate import effects
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
from tests.helpers.dictionary_files import HOOK, save_own
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


@pytest.mark.parametrize("first_zero", [False, True])
def test_a_transcoder_s_latents_are_ablated_in_what_they_approximate(first_zero: bool) -> None:
    """The MLP's output loses what two of them add to it, by what the MLP reads in the same pass;
    also where latents are 0 at a context's first position, and with a norm that is undone."""
    model = load_model(resolve_model("demo"), asked=Asked(dictionary=str(DICTIONARIES[1])))
    latents: Any = model.units
    norm = "layer_norm" if first_zero else "none"
    dictionary = replace(latents.dictionaries[1], first_zero=first_zero, norm=norm)
    model = replace(model, units=replace(latents, dictionaries={1: dictionary}))
    tokens = [0, 818, 278, 8, 88, 422, 343, 458, 616]
    plain: Any = transformers.AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval()
    mlp, seen = plain.transformer.h[1].mlp, []
    handle = mlp.register_forward_hook(lambda _, given, __: seen.append(given[0][0]))
    with torch.no_grad():
        base = plain(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    handle.remove()
    acts = dictionary.activations(seen[0][None])[0]
    assert (acts[0].max() == 0) == first_zero
    chosen = [int(unit) for unit in acts[-1].topk(2).indices]
    assert acts[-1, chosen].min() > 0

    def without(settings: dict[int, float], at: list[int]) -> Tensor:
        changed = acts.clone()
        for unit, value in settings.items():
            changed[at, unit] = value
        lost = dictionary.decode(acts, seen[0]) - dictionary.decode(changed, seen[0])
        handle = mlp.register_forward_hook(lambda _, __, output: output - lost)
        with torch.no_grad():
            log_p: Tensor = plain(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
        handle.remove()
        return log_p

    at = [0, 3, 8]
    pair = [Ablated(1, chosen[0], 0.3), Ablated(1, chosen[1], 0.7)]
    found = position_effects(model, pair, tokens, at)
    for row, settings in (
        (ZERO, dict.fromkeys(chosen, 0.0)),
        (MEAN, {one.unit: one.mean for one in pair}),
    ):
        log_p = without(settings, at)
        truth = [-float(log_p[i, token]) for i, token in enumerate(tokens[1:])]
        np.testing.assert_allclose(found.losses[row, 1:], truth, rtol=1e-4)
        assert found.divergences[row, -1] > 1e-6
    unit, every = chosen[0], list(range(1, len(tokens)))
    one = effects(model, 1, unit, tokens, first=1, mean=0.3)
    assert one.no_ablation == ""
    for predicted, value in ((one.zero_ablated, 0.0), (one.mean_ablated, 0.3)):
        assert predicted is not None
        after = without({unit: value}, every)[-1]
        expected = float((base[-1].exp() * (base[-1] - after)).sum())
        assert expected > 1e-6
        assert predicted.divergence == pytest.approx(expected, rel=2e-3)
    assert one.attribution is not None
    assert one.attribution.activation == pytest.approx(float(acts[-1, unit]), rel=1e-4)


def test_directions_without_a_decoder_cannot_be_ablated(tmp_path: Path) -> None:
    """One line says so."""
    path = save_own(tmp_path / "own.safetensors", {"W_enc": torch.eye(160)[:, :3]}, hook_point=HOOK)
    model = load_model(resolve_model("demo"), asked=Asked(dictionary=str(path)))
    with pytest.raises(NeurariumError, match="no decoder"):
        position_effects(model, [Ablated(1, 0, 0.0)], [0, 818, 278], [1])
