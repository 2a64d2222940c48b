"""What a neuron does to a prediction, against forward passes hooked by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from indexer.captured import Captured
from indexer.errors import NeurariumError
from indexer.interventions.ablate import Effects, effects
from indexer.interventions.predict import Predicted
from indexer.interventions.read import read_text, read_unit
from indexer.models.asked import Asked
from indexer.models.load import load_model
from indexer.models.loaded import LoadedModel
from indexer.models.source import resolve_model
from tests.helpers.tiny_models import TEXT, captured, save_tiny_model, some_tokens
from tests.indexer.models.test_model_native import native_model

LAYER, NEURON, MEAN = 1, 7, 0.37

# The projection out of layer 1's MLP, the final norm, and the norm after the MLP, by their names.
LLAMA = ("model.layers.1.mlp.down_proj", "model.norm", None)
AFTER = (*LLAMA[:2], "model.layers.1.post_feedforward_layernorm")
PATHS: dict[str, tuple[str, str, str | None]] = {
    "gpt2": ("transformer.h.1.mlp.c_proj", "transformer.ln_f", None),
    "gpt_neox": ("gpt_neox.layers.1.mlp.dense_4h_to_h", "gpt_neox.final_layer_norm", None),
    "opt": ("model.decoder.layers.1.fc2", "model.decoder.final_layer_norm", None),
    "llama": LLAMA,
    "gemma2": AFTER,
    "olmo2": AFTER,
    "granite": LLAMA,
    "cohere": LLAMA,
    "phi3": LLAMA,
}
LAYER_NORMS = ("gpt2", "gpt_neox", "opt", "cohere")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny model of an architecture, saved once."""
    saved: dict[str, Path] = {}

    def of(architecture: str) -> Path:
        if architecture not in saved:
            folder = tmp_path_factory.mktemp(architecture)
            saved[architecture] = save_tiny_model(folder, architecture)
        return saved[architecture]

    return of


def of_neuron(model: LoadedModel, token_ids: list[int], first: int = 1) -> Effects:
    """The effects of the one neuron that is looked at here."""
    return effects(model, LAYER, NEURON, token_ids, first=first, mean=MEAN)


def ids(count: int = 9) -> list[int]:
    """A BOS and some tokens."""
    return [1, *some_tokens(count).tolist()]


def hooked_logits(
    model: nn.Module,
    module: nn.Module,
    tokens: list[int],
    change: Callable[[Tensor], Tensor],
    *,
    on_input: bool = True,
) -> Tensor:
    """The last position's logits of a plain model whose module gets, or gives, something else."""

    def before(_: Any, args: Any) -> Any:
        return (change(args[0].clone()),)

    def after(_module: Any, _args: Any, output: Tensor) -> Tensor:
        return change(output.clone())

    handle = (
        module.register_forward_pre_hook(before)
        if on_input
        else module.register_forward_hook(after)
    )
    with torch.no_grad():
        out = model(torch.tensor([tokens]))
    handle.remove()
    logits: Tensor = out.logits[0, -1]
    return logits


def setting(value: float | None, first: int = 1) -> Callable[[Tensor], Tensor]:
    """Sets the neuron to a value at every position from `first` on; None leaves it alone."""

    def change(acts: Tensor) -> Tensor:
        if value is not None:
            acts.view(-1, acts.shape[-1])[first:, NEURON] = value
        return acts

    return change


def check_prediction(given: Predicted, logits: Tensor, as_is: Tensor) -> None:
    """A prediction is the softmax of these logits, its divergence that from `as_is`."""
    p, q = as_is.double().softmax(-1), logits.double().softmax(-1)
    best = q.argsort(descending=True)[: len(given.token_ids)].tolist()
    assert list(given.token_ids) == best
    np.testing.assert_allclose(given.probabilities, q[best], rtol=1e-4)
    np.testing.assert_allclose(given.as_is, p[best], rtol=1e-4)
    divergence = float((p * (p / q).log()).sum())
    assert given.divergence == pytest.approx(divergence, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("architecture", PATHS)
def test_predictions_are_those_of_a_model_hooked_by_hand(
    tiny: Callable[[str], Path], architecture: str
) -> None:
    """As it is, zero- and mean-ablated: each is one plain forward pass with the neuron set."""
    folder, tokens = tiny(architecture), ids()
    found = of_neuron(load_model(resolve_model(str(folder))), tokens)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    module = plain.get_submodule(PATHS[architecture][0])
    as_is, zero, mean = (
        hooked_logits(plain, module, tokens, setting(value)) for value in (None, 0.0, MEAN)
    )
    check_prediction(found.as_is, as_is, as_is)
    check_prediction(found.zero_ablated, zero, as_is)
    check_prediction(found.mean_ablated, mean, as_is)
    assert found.as_is.divergence == 0
    assert found.zero_ablated.divergence > 0
    assert len(found.as_is.token_ids) == 10


def test_a_neuron_captured_before_its_activation_is_ablated_there(
    tiny: Callable[[str], Path],
) -> None:
    """At `mlp.hook_pre` what is set is the value before the activation function."""
    folder, tokens = tiny("gpt2"), ids()
    model = load_model(resolve_model(str(folder)), asked=Asked("mlp.hook_pre"))
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    module = plain.get_submodule("transformer.h.1.mlp.c_fc")
    as_is, mean = (
        hooked_logits(plain, module, tokens, setting(value), on_input=False)
        for value in (None, MEAN)
    )
    found = of_neuron(model, tokens)
    check_prediction(found.as_is, as_is, as_is)
    check_prediction(found.mean_ablated, mean, as_is)
    after = of_neuron(load_model(resolve_model(str(folder))), tokens)
    assert found.attribution == after.attribution  # it is the value after it that writes


def test_a_fused_projection_is_ablated_in_its_first_half(tiny: Callable[[str], Path]) -> None:
    """Phi-3's gate and up projection are one module: the gate's value is the one that is set."""
    folder, tokens = tiny("phi3"), ids()
    model = load_model(resolve_model(str(folder)), asked=Asked("mlp.hook_pre"))
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    module = plain.get_submodule("model.layers.1.mlp.gate_up_proj")
    as_is, zero = (
        hooked_logits(plain, module, tokens, setting(value), on_input=False)
        for value in (None, 0.0)
    )
    check_prediction(of_neuron(model, tokens).zero_ablated, zero, as_is)


@pytest.mark.parametrize("first", [0, 1, 4])
def test_positions_before_the_first_included_one_are_left_alone(
    tiny: Callable[[str], Path], first: int
) -> None:
    """A BOS keeps its activation; without one all positions are set."""
    folder, tokens = tiny("gpt2"), ids()
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    module = plain.get_submodule(PATHS["gpt2"][0])
    as_is, zero = (
        hooked_logits(plain, module, tokens, setting(value, first)) for value in (None, 0.0)
    )
    found = of_neuron(load_model(resolve_model(str(folder))), tokens, first)
    check_prediction(found.zero_ablated, zero, as_is)


def frozen(norm: nn.Module, *, centred: bool) -> tuple[Callable[[Tensor], Tensor], Any]:
    """A norm that keeps the scale it has at the first input it is given."""
    kept: dict[str, Tensor] = {}

    def scale_of(x: Tensor) -> Tensor:
        eps = next(
            float(value)
            for name in ("eps", "variance_epsilon")
            if (value := getattr(norm, name, None)) is not None
        )
        x = x - x.mean(-1, keepdim=True) if centred else x
        return (x.square().mean(-1, keepdim=True) + eps).sqrt()

    def apply(x: Tensor) -> Tensor:
        scale = scale_of(x)
        kept.setdefault("scale", scale)
        with torch.no_grad():
            out: Tensor = norm(x)
            bias = getattr(norm, "bias", None)
            bias = torch.zeros(()) if bias is None else bias
            return (out - bias) * scale / kept["scale"] + bias

    return apply, kept


@pytest.mark.parametrize("architecture", [name for name in PATHS if name != "phi3"])
def test_the_attribution_is_what_the_logit_loses_without_the_neuron(
    tiny: Callable[[str], Path], architecture: str
) -> None:
    """With every norm's scale frozen, the last block's write without the neuron lowers the
    predicted token's logit by exactly the attribution: the model is linear there."""
    folder, tokens = tiny(architecture), ids()
    found = of_neuron(load_model(resolve_model(str(folder))), tokens).attribution
    plain: Any = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    out_path, norm_path, after_path = PATHS[architecture]
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: Any, args: Any) -> None:
            seen[name] = args[0].reshape(-1, args[0].shape[-1])[-1]

        return hook

    projection, norm = plain.get_submodule(out_path), plain.get_submodule(norm_path)
    projection.register_forward_pre_hook(keep("neurons"))
    norm.register_forward_pre_hook(keep("residual"))
    with torch.no_grad():
        logits = plain(torch.tensor([tokens])).logits[0, -1]
        acts = seen["neurons"]
        without = acts.clone()
        without[NEURON] = 0
        writes = projection(acts), projection(without)
        if after_path is not None:
            after, _ = frozen(plain.get_submodule(after_path), centred=False)
            writes = after(writes[0]), after(writes[1])
        lost = (writes[0] - writes[1]) * getattr(plain.config, "residual_multiplier", 1.0)
        final, scale = frozen(norm, centred=architecture in LAYER_NORMS)
        head = plain.get_output_embeddings()
        kept, missing = head(final(seen["residual"])), head(final(seen["residual"] - lost))
    difference = kept - missing
    if architecture == "granite":
        difference = difference / plain.config.logits_scaling
    difference = difference * getattr(plain.config, "logit_scale", 1.0)
    token = int(logits.argmax())
    assert found.token_id == token
    assert found.activation == pytest.approx(float(acts[NEURON]), rel=1e-4)
    assert found.value == pytest.approx(float(difference[token]), rel=2e-3, abs=1e-6)
    assert found.value == pytest.approx(found.activation * found.logit_effect / found.scale)
    if after_path is None:
        assert found.scale == pytest.approx(float(scale["scale"]), rel=1e-3)


@pytest.mark.parametrize("hook_point", ["mlp.ln.hook_in", "mlp.hook_pre", "mlp.hook_post"])
def test_a_solu_neuron_is_attributed_through_its_layer_norm(hook_point: str) -> None:
    """A native SoLU model: the norm inside the MLP and the final one keep their scales."""
    bridge, model = native_model(hook_point)
    tokens = ids()
    found = of_neuron(model, tokens).attribution
    native = bridge.original_model
    mlp = native.layers[LAYER].original_component.mlp.original_component
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: Any, args: Any) -> None:
            seen[name] = args[0][0, -1]

        return hook

    handles = [
        mlp.ln.register_forward_pre_hook(keep("before")),
        mlp.fc_out.register_forward_pre_hook(keep("after")),
        native.ln_out.register_forward_pre_hook(keep("residual")),
    ]
    with torch.no_grad():
        logits = native(torch.tensor([tokens]))[0, -1]
        for handle in handles:
            handle.remove()
        inner, _ = frozen(mlp.ln.original_component, centred=True)
        if hook_point == "mlp.hook_post":
            inner = nn.Identity()
        acts = seen["after" if hook_point == "mlp.hook_post" else "before"]
        without = acts.clone()
        without[NEURON] = 0
        project = mlp.fc_out.original_component
        lost = project(inner(acts)) - project(inner(without))
        final, _ = frozen(native.ln_out.original_component, centred=True)
        head, residual = native.head.original_component, seen["residual"]
        difference = head(final(residual)) - head(final(residual - lost))
    token = int(logits.argmax())
    assert found.token_id == token
    assert found.value == pytest.approx(float(difference[token]), rel=2e-3, abs=1e-6)
    assert found.activation == pytest.approx(float(acts[NEURON]), rel=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_activations_are_those_the_scan_is_handed(
    tiny: Callable[[str], Path], architecture: str
) -> None:
    """One neuron's values for the same tokens, with the gate and the linear part if there are."""
    model = load_model(resolve_model(str(tiny(architecture))))
    found = read_unit(model, LAYER, NEURON, ids())
    seen: list[Captured] = []
    tokens = torch.tensor([ids()])
    model.capture(tokens, torch.ones_like(tokens), lambda _, captured: seen.append(captured))
    assert found.activations.dtype == np.float32
    np.testing.assert_array_equal(found.activations, seen[LAYER].activations[0, :, NEURON])
    if architecture == "gpt2":
        assert found.gate is None
        assert found.linear is None
    else:
        assert found.gate is not None
        assert found.linear is not None
        product = found.gate / (1 + np.exp(-found.gate)) * found.linear  # SiLU
        np.testing.assert_allclose(product, found.activations, rtol=1e-4, atol=1e-6)


def test_effects_leave_the_model_as_it_was(tiny: Callable[[str], Path]) -> None:
    """No hook stays behind, also where the model fails in the middle of a pass."""
    model = load_model(resolve_model(str(tiny("gpt2"))))
    tokens = ids()
    before = captured(model, torch.tensor([tokens]))
    of_neuron(model, tokens)
    with pytest.raises(IndexError):
        of_neuron(model, [99_999] * 3)
    for here, there in zip(captured(model, torch.tensor([tokens])), before, strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=0)
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in model.root.modules()
    )


def test_text_is_read_as_a_corpus_is(tiny: Callable[[str], Path]) -> None:
    """BOS in front, the tokenizer's own ids after it; a control token's name stays text."""
    model = load_model(resolve_model(str(tiny("gpt2"))))
    plain = model.tokens.tokenizer(TEXT, add_special_tokens=False, split_special_tokens=True)
    assert read_text(model, TEXT, 1) == [1, *plain["input_ids"]]
    assert read_text(model, TEXT, None) == plain["input_ids"]
    spelled = read_text(model, "a<bos>b<pad>", 1)
    assert spelled[0] == 1
    assert not {0, 1} & set(spelled[1:])
    assert read_text(model, "", None) == []


def test_memory_that_runs_out_is_told(tiny: Callable[[str], Path]) -> None:
    """Where the forward pass does not fit, the error says so in one line."""
    model = load_model(resolve_model(str(tiny("gpt2"))))

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    model.root.forward = fail
    with pytest.raises(NeurariumError, match="not enough memory on cpu for 3 × 10 tokens"):
        of_neuron(model, ids())


def test_a_model_without_an_unembedding_is_told() -> None:
    """What cannot be predicted is refused by name."""
    _, model = native_model()
    model.layout.adapter.component_mapping["unembed"].name = "nowhere"
    with pytest.raises(NeurariumError, match=r"unembedding of 'tiny' .* cannot be found"):
        of_neuron(model, ids())
