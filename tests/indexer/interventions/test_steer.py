"""Steering against forward passes hooked by hand, for every kind of unit that writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from indexer.errors import NeurariumError
from indexer.interventions.ablate import effects
from indexer.interventions.ablate_positions import ZERO, Ablated, position_effects
from indexer.interventions.steer import Push, sampled, steer
from indexer.models.asked import Asked
from indexer.models.load import load_model
from indexer.models.loaded import LoadedModel
from indexer.models.source import resolve_model
from tests.helpers.dictionary_files import save_own, some, weights
from tests.helpers.small_latents import save_dictionaries
from tests.helpers.tiny_models import WIDTH, save_tiny_model, some_tokens

TOKENS = [1, *some_tokens(7).tolist()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models and dictionaries."""
    return tmp_path_factory.mktemp("steer")


def loaded(folder: Path, architecture: str, asked: Asked) -> LoadedModel:
    """A tiny model with a set of units."""
    path = folder / architecture
    if not path.exists():
        save_tiny_model(path, architecture)
    return load_model(resolve_model(str(path)), asked=asked)


def by_hand(model: Any, module: Any, vector: Tensor, tokens: list[int], at: list[int]) -> Tensor:
    """Logits [pos, d_vocab] where `vector` is added to a module's output at some positions."""

    def add(_module: Any, _args: Any, output: Any) -> Any:
        stream = (output[0] if isinstance(output, tuple) else output).clone()
        stream[0, at] += vector
        return (stream, *output[1:]) if isinstance(output, tuple) else stream

    handle = module.register_forward_hook(add)
    with torch.no_grad():
        logits: Tensor = model(torch.tensor([tokens])).logits[0]
    handle.remove()
    return logits


@pytest.mark.parametrize(
    ("architecture", "hook_point"),
    [
        ("gpt2", "latents"),
        ("opt", "latents"),
        ("llama", "mlp.hook_post"),
        ("llama", "attn.hook_z"),
        ("gpt_neox", "hook_resid_post"),
    ],
)
def test_the_likeliest_tokens_are_those_of_plain_passes(
    folder: Path, architecture: str, hook_point: str
) -> None:
    """Without sampling: each new token, and each divergence, by a whole pass hooked by hand."""
    asked = Asked(hook_point)
    if hook_point == "latents":
        asked = Asked(dictionary=save_dictionaries(folder / "dictionaries"))
    loaded_model = loaded(folder, architecture, asked)
    model, amount = loaded_model.root, 9.0
    made = steer(
        loaded_model,
        [Push(0, 2, amount / 2), Push(0, 2, amount / 2)],
        TOKENS,
        positions=frozenset({2, 3}),
        generated=True,
        new_tokens=6,
        seed=0,
        temperature=0,
    )
    writes = loaded_model.units.writes(0)
    vector = amount * writes.vectors[2]  # type: ignore[union-attr]
    blocks = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
    at_attention = hook_point == "attn.hook_z"
    module = blocks[0].self_attn if at_attention else blocks[0]
    for ids, pushed in ((made.plain, 0.0), (made.steered, 1.0)):
        tokens = list(TOKENS)
        for found in ids:
            at = [2, 3, *range(len(TOKENS), len(tokens))]
            logits = by_hand(model, module, pushed * vector, tokens, at)
            assert found == int(logits[-1, : loaded_model.known_tokens].argmax())
            tokens.append(found)
    tokens = [*TOKENS, *made.plain]
    at = [2, 3, *range(len(TOKENS), len(tokens))]
    plain, steered = (
        by_hand(model, module, pushed * vector, tokens, at).double().log_softmax(-1)
        for pushed in (0.0, 1.0)
    )
    expected = (plain.exp() * (plain - steered)).sum(-1)
    np.testing.assert_allclose(made.divergences, expected, rtol=1e-3, atol=1e-6)
    assert max(made.divergences[:2]) < 1e-9 < min(made.divergences[3:])


@pytest.mark.parametrize("norm", ["layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("point", ["hook_resid_post", "hook_resid_mid"])
def test_a_normalised_dictionary_writes_in_the_model_s_own_units(
    folder: Path, norm: str, point: str
) -> None:
    """Its decoder's row times what the input was divided by at the position: attributed and
    steered as a plain pass hooked by hand."""
    w = weights(2, WIDTH, 12)
    path = save_own(
        folder / norm / f"{point}.safetensors",
        some(w, "W_enc", "b_enc", "W_dec"),
        hook_point=f"blocks.1.{point}",
        activation="relu",
        normalize_activations=norm,
    )
    model = loaded(folder, "llama", Asked(dictionary=str(path)))
    plain = model.root
    block = plain.model.layers[1]
    module = block if point == "hook_resid_post" else block.post_attention_layernorm
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_m: Any, args: Any, output: Any = None) -> None:
            values = args[0] if output is None else output
            seen[name] = (values[0] if isinstance(values, tuple) else values)[0].detach()

        return hook

    handles = [
        module.register_forward_hook(keep("stream"))
        if module is block
        else module.register_forward_pre_hook(keep("stream")),
        plain.model.norm.register_forward_pre_hook(keep("last")),
    ]
    with torch.no_grad():
        logits = plain(torch.tensor([TOKENS])).logits[0]
        gain = plain.model.norm.weight.clone()
    for handle in handles:
        handle.remove()
    stream, last = seen["stream"], seen["last"][-1]
    scale = stream.std(-1) if norm == "layer_norm" else stream.norm(dim=-1) / WIDTH**0.5
    centred = stream - stream.mean(-1, keepdim=True) if norm == "layer_norm" else stream
    acts = torch.relu((centred / scale[:, None]) @ w["W_enc"] + w["b_enc"])
    unit = int(acts[-1].argmax())
    found = effects(model, 1, unit, TOKENS, first=1, mean=0.0).attribution
    assert found is not None
    assert found.activation == pytest.approx(float(acts[-1, unit]), rel=1e-4)
    own = acts[-1, unit] * scale[-1] * w["W_dec"][unit] / last.square().mean().add(1e-6).sqrt()
    row = plain.lm_head.weight[int(logits[-1].argmax())].detach()
    assert found.value == pytest.approx(float((own * gain) @ row), rel=1e-3)

    made = steer(
        model,
        [Push(1, unit, 7.0)],
        TOKENS,
        positions=frozenset({2, 5}),
        generated=False,
        new_tokens=0,
        seed=0,
    )
    vectors = 7.0 * scale[[2, 5], None] * w["W_dec"][unit]
    at_attention = block.self_attn if point == "hook_resid_mid" else block
    pushed = by_hand(plain, at_attention, vectors, TOKENS, [2, 5])
    before, after = (one.double().log_softmax(-1) for one in (logits, pushed))
    expected = (before.exp() * (before - after)).sum(-1)
    np.testing.assert_allclose(made.divergences, expected, rtol=1e-3, atol=1e-6)
    assert min(made.divergences[2], made.divergences[5]) > 1e-4


def test_one_seed_draws_both_texts(folder: Path) -> None:
    """A strength of 0 changes nothing; an equal seed gives an equal text, another another."""
    model = loaded(folder, "gpt2", Asked())

    def made(amount: float, seed: int) -> Any:
        return steer(
            model,
            [Push(1, 3, amount)],
            TOKENS,
            positions=frozenset(range(1, len(TOKENS))),
            generated=True,
            new_tokens=12,
            seed=seed,
        )

    still = made(0.0, 5)
    assert still.plain == still.steered
    assert max(still.divergences) < 1e-12
    assert made(50.0, 5).plain == still.plain
    assert made(50.0, 5).steered != still.plain
    assert made(0.0, 6).plain != still.plain


def test_a_head_cannot_be_steered_with(folder: Path) -> None:
    """It writes no fixed vector: one line says so."""
    model = loaded(folder, "llama", Asked("attn.hook_pattern"))
    with pytest.raises(NeurariumError, match="A head writes no fixed vector"):
        steer(
            model, [Push(0, 1, 1.0)], TOKENS,
            positions=frozenset(), generated=True, new_tokens=1, seed=0,
        )  # fmt: skip


def test_a_latent_is_ablated(folder: Path) -> None:
    """Set to 0, the stream loses its activation times its direction, at each position."""
    asked = Asked(dictionary=save_dictionaries(folder / "dictionaries"))
    model = loaded(folder, "gpt2", asked)
    dictionary = model.units.dictionaries[1]  # type: ignore[attr-defined]
    block = model.root.transformer.h[1]  # type: ignore[union-attr]
    seen: list[Tensor] = []
    handle = block.register_forward_hook(  # type: ignore[union-attr]
        lambda _m, _a, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        before = model.root(torch.tensor([TOKENS])).logits[0, -1]
    handle.remove()
    stream = seen[0].reshape(len(TOKENS), -1)
    acts = dictionary.encode(stream)[1:]
    unit = int(acts[-1].argmax())
    change = -acts[:, unit, None] * dictionary.W_dec[unit]
    logits = by_hand(model.root, block, change, TOKENS, list(range(1, len(TOKENS))))[-1]
    found = effects(model, 1, unit, TOKENS, first=1, mean=0.0)
    log_p, log_q = (x.double().log_softmax(-1) for x in (before, logits))
    expected = float((log_p.exp() * (log_p - log_q)).sum())
    assert found.zero_ablated.divergence == pytest.approx(expected, rel=1e-3)
    assert expected > 1e-6
    assert found.attribution is not None
    assert found.attribution.activation == pytest.approx(float(acts[-1, unit]), rel=1e-4)


def test_the_middle_of_a_block_is_ablated_where_the_stream_goes_on(folder: Path) -> None:
    """Not only what the MLP reads: the block's output has the change too."""
    model = loaded(folder, "llama", Asked("hook_resid_mid"))
    seen: list[Tensor] = []
    tokens = torch.tensor([TOKENS])
    model.capture(
        tokens,
        torch.ones_like(tokens),
        lambda _, captured: seen.append(captured.activations[0].clone()),
    )
    unit, attention = 5, model.root.model.layers[0].self_attn  # type: ignore[union-attr]
    change = torch.zeros(len(TOKENS), seen[0].shape[1])
    change[:, unit] = -seen[0][:, unit]
    every = list(range(1, len(TOKENS)))
    logits = by_hand(model.root, attention, change[1:], TOKENS, every)[-1]
    with torch.no_grad():
        before = model.root(tokens).logits[0, -1]
    log_p, log_q = (x.double().log_softmax(-1) for x in (before, logits))
    expected = float((log_p.exp() * (log_p - log_q)).sum())
    found = effects(model, 0, unit, TOKENS, first=1, mean=0.0)
    assert found.zero_ablated.divergence == pytest.approx(expected, rel=1e-3)
    assert expected > 1e-7
    at_positions = position_effects(model, [Ablated(0, unit, 0.0)], TOKENS, every)
    assert at_positions.divergences[ZERO, -1] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("temperature", [5e-324, 1e-320, 1e-300, 1e-9, 0.0])
def test_a_tiny_temperature_takes_the_likeliest_token(temperature: float) -> None:
    """Logits divided by it are larger than any number."""
    logits = torch.tensor([-3.0, 40.0, 39.0, -1e30], dtype=torch.float64)
    for roll in (0.0, 0.3, 0.999):
        assert sampled(logits, roll, temperature) == 1
        assert sampled(-logits, roll, temperature) == 3


def test_a_token_is_drawn_by_its_share() -> None:
    """The shares of the probabilities, end to end, at this temperature."""
    logits = torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64)
    ends = np.cumsum(np.exp(logits.numpy() / 0.7) / np.exp(logits.numpy() / 0.7).sum())
    for roll in np.linspace(0.001, 0.999, 50):
        assert sampled(logits, float(roll), 0.7) == int(np.searchsorted(ends, roll, side="right"))
