"""Write vectors and logit effects against finite differences through the real modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from indexer import weights
from indexer.model import LoadedModel, LoadedTokenizer, ModelSource, load_model, resolve_model
from indexer.weights import logit_effects, norm_gain, write_vectors
from tests.test_model_native import native_model
from tests.tiny_models import VOCAB, save_tiny_model

KNOWN = VOCAB - 4  # the last rows of the unembedding are padding
LARGE = 1e4  # a residual stream so large that no norm's epsilon counts

PATHS: dict[str, tuple[str, str, str | None]] = {
    "gpt2": ("transformer.h.1.mlp.c_proj", "transformer.ln_f", None),
    "gpt_neox": ("gpt_neox.layers.1.mlp.dense_4h_to_h", "gpt_neox.final_layer_norm", None),
    "opt": ("model.decoder.layers.1.fc2", "model.decoder.final_layer_norm", None),
    "llama": ("model.layers.1.mlp.down_proj", "model.norm", None),
    "gemma2": (
        "model.layers.1.mlp.down_proj",
        "model.norm",
        "model.layers.1.post_feedforward_layernorm",
    ),
    "gemma3": (
        "model.layers.1.mlp.down_proj",
        "model.norm",
        "model.layers.1.post_feedforward_layernorm",
    ),
    "olmo2": (
        "model.layers.1.mlp.down_proj",
        "model.norm",
        "model.layers.1.post_feedforward_layernorm",
    ),
    "granite": ("model.layers.1.mlp.down_proj", "model.norm", None),
    "cohere": ("model.layers.1.mlp.down_proj", "model.norm", None),
    "phi": ("model.layers.1.mlp.fc2", "model.final_layernorm", None),
}
"""By hand: the output projection, the final norm, the norm between MLP and residual stream."""

LAYER_NORMS = ("gpt2", "gpt_neox", "opt", "cohere", "phi")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with a tiny model for every architecture."""
    return {
        name: save_tiny_model(tmp_path_factory.mktemp("weights") / name, name) for name in PATHS
    }


def odd(module: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """The part of a module's output that changes sign with its input: biases drop out."""
    with torch.no_grad():
        out: Tensor = (module(x[None, None]) - module(-x[None, None]))[0, 0] / 2
    return out


def size(x: Tensor, *, centred: bool) -> Tensor:
    """What a norm divides by."""
    x = x - x.mean() if centred else x
    return x.square().mean().sqrt()


def by_difference(model: Any, architecture: str, neuron: int) -> Tensor:
    """The logits of a residual stream that is one neuron's write alone, times the norms' scales."""
    out_path, norm_path, after_path = PATHS[architecture]
    projection, norm = model.get_submodule(out_path), model.get_submodule(norm_path)
    width = {"gpt2": 40, "opt": 40, "gpt_neox": 56, "phi": 56}.get(architecture, 48)
    one = torch.zeros(width)
    one[neuron] = 1
    write = odd(projection, one)
    if after_path is not None:
        write = odd(model.get_submodule(after_path), LARGE * write) * size(write, centred=False)
    write = write * getattr(model.config, "residual_multiplier", 1.0)
    centred = architecture in LAYER_NORMS
    logits = odd(lambda x: model.get_output_embeddings()(norm(x)), LARGE * write)
    logits = logits * size(write, centred=centred)
    if architecture == "granite":
        logits = logits / model.config.logits_scaling
    return logits * getattr(model.config, "logit_scale", 1.0)


@pytest.mark.parametrize("architecture", PATHS)
def test_logit_effects_are_what_the_real_modules_do(
    tiny: dict[str, Path], architecture: str
) -> None:
    """One neuron's write alone through the real norms and unembedding, at its own scale."""
    effects = logit_effects(load_model(resolve_model(str(tiny[architecture]))), 1, k=KNOWN)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tiny[architecture]).eval()
    for neuron in (0, 7, 39):
        truth = by_difference(plain, architecture, neuron)[:KNOWN].numpy()
        ours = np.empty(KNOWN, dtype=np.float32)
        ours[effects.top_ids[neuron]] = effects.top_values[neuron]
        np.testing.assert_allclose(ours, truth, rtol=1e-3, atol=1e-4 * np.abs(truth).max())
        assert effects.top_ids[neuron, 0] == truth.argmax()
        assert effects.bottom_ids[neuron, 0] == truth.argmin()


@pytest.mark.parametrize("hook_point", ["mlp.ln.hook_in", "mlp.hook_pre", "mlp.hook_post"])
def test_a_solu_neuron_writes_through_its_layer_norm(hook_point: str) -> None:
    """Before its LayerNorm a SoLU neuron writes centred and scaled; after it, a row of W_out."""
    bridge, model = native_model(hook_point)
    mlp = bridge.original_model.layers[1].original_component.mlp.original_component
    norm, projection = mlp.ln.original_component, mlp.fc_out.original_component
    vectors = write_vectors(model, 1)
    assert vectors.shape == (24, 16)
    for neuron in (0, 23):
        one = torch.zeros(24)
        one[neuron] = 1
        if hook_point == "mlp.hook_post":
            truth = odd(projection, one)
        else:
            through = odd(norm, LARGE * one) * size(one, centred=True)
            truth = odd(projection, through)
        torch.testing.assert_close(vectors[neuron], truth, rtol=1e-3, atol=1e-5)


def test_a_solu_models_logit_effects_end_in_its_own_unembedding() -> None:
    """The native model's final norm and head, by finite difference."""
    bridge, model = native_model()
    native = bridge.original_model
    norm, head = native.ln_out.original_component, native.head.original_component
    effects = logit_effects(model, 0, k=KNOWN)
    vectors = write_vectors(model, 0)
    truth = odd(lambda x: head(norm(x)), LARGE * vectors[3]) * size(vectors[3], centred=True)
    ours = torch.empty(KNOWN)
    ours[torch.from_numpy(effects.top_ids[3]).long()] = torch.from_numpy(effects.top_values[3])
    torch.testing.assert_close(ours, truth[:KNOWN], rtol=1e-3, atol=1e-5)


class _OnePlus(nn.Module):
    """RMSNorm as Gemma writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-0.5, 0.5, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return x * (1 + self.weight)


@pytest.mark.parametrize("width", [2, 7, 32])
def test_a_norm_is_measured(width: int) -> None:
    """Weight and centring come out of what a norm does, for even and odd widths."""
    cpu = torch.device("cpu")
    layer_norm = nn.LayerNorm(width)
    nn.init.uniform_(layer_norm.weight, -2, 2)
    nn.init.normal_(layer_norm.bias)
    for norm, expected, centred in (
        (layer_norm, layer_norm.weight, True),
        (nn.RMSNorm(width), torch.ones(width), False),
        (_OnePlus(width), 1 + torch.linspace(-0.5, 0.5, width), False),
        (nn.Identity(), torch.ones(width), False),
        (layer_norm.to(torch.bfloat16), layer_norm.weight, True),
    ):
        with torch.no_grad():
            gain, centres = norm_gain(norm, width, cpu)
        torch.testing.assert_close(gain, expected.detach().float(), rtol=1e-3, atol=1e-3)
        assert centres is centred


def fake(unembedding: Tensor, vectors: Tensor, monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    """A model whose write vectors and unembedding are given, without a final norm."""

    class Layout:
        def logit_scale(self) -> float:
            return 1.0

    class Model:
        layout = Layout()
        known_tokens = d_vocab = unembedding.shape[0]

    monkeypatch.setattr(weights, "write_vectors", lambda *_: vectors)
    monkeypatch.setattr(weights, "_through_final_norm", lambda _model, x: x)
    monkeypatch.setattr(weights, "_unembedding", lambda _model: unembedding)
    return Model()  # type: ignore[return-value]


def test_ties_go_to_the_lower_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal effects are ordered by token id, and at the k-th place the lower id stays."""
    unembedding = torch.tensor([[0.0], [1.0], [2.0], [1.0], [1.0], [-1.0], [0.0], [-1.0]])
    model = fake(unembedding, torch.tensor([[1.0], [0.0], [-2.0]]), monkeypatch)
    effects = logit_effects(model, 0, k=3)
    assert effects.top_ids.tolist() == [[2, 1, 3], [0, 1, 2], [5, 7, 0]]
    assert effects.top_values.tolist() == [[2, 1, 1], [0, 0, 0], [2, 2, 0]]
    assert effects.bottom_ids.tolist() == [[5, 7, 0], [0, 1, 2], [2, 1, 3]]
    assert effects.bottom_values.tolist() == [[-1, -1, 0], [0, 0, 0], [-4, -2, -2]]
    assert (effects.top_values.dtype, effects.top_ids.dtype) == (np.float32, np.int32)


def test_blocks_of_neurons_give_what_all_at_once_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is a brute-force sort's, however few neurons fit the memory at once."""
    generator = torch.Generator().manual_seed(0)
    unembedding = torch.randint(-3, 4, (50, 4), generator=generator).float()
    vectors = torch.randint(-2, 3, (9, 4), generator=generator).float()
    model = fake(unembedding, vectors, monkeypatch)
    monkeypatch.setattr(weights, "_BLOCK", 100)
    effects = logit_effects(model, 0, k=15)
    for neuron, vector in enumerate(vectors):
        values = (unembedding @ vector).tolist()
        order = sorted(range(50), key=lambda i: (-values[i], i))[:15]
        assert effects.top_ids[neuron].tolist() == order
        assert effects.top_values[neuron].tolist() == [values[i] for i in order]
        order = sorted(range(50), key=lambda i: (values[i], i))[:15]
        assert effects.bottom_ids[neuron].tolist() == order


def test_padding_rows_of_the_unembedding_take_no_part(tiny: dict[str, Path]) -> None:
    """Only ids the tokenizer knows, or those below `vocab_size`, are reported."""
    model = load_model(resolve_model(str(tiny["gpt2"])))
    assert logit_effects(model, 0, k=1000).top_ids.shape == (40, KNOWN)
    few = logit_effects(model, 0, k=15, vocab_size=10)
    assert few.top_ids.shape == (40, 10)
    assert few.top_ids.max() == 9


def test_a_model_captured_before_its_activation_writes_the_same(tiny: dict[str, Path]) -> None:
    """The logit effects of a neuron do not depend on which side of its activation is captured."""
    source = resolve_model(str(tiny["llama"]))
    after = logit_effects(load_model(source), 1)
    before = logit_effects(load_model(source, hook_point="mlp.hook_pre"), 1)
    np.testing.assert_array_equal(after.top_ids, before.top_ids)
    np.testing.assert_array_equal(after.bottom_values, before.bottom_values)


def test_an_opt_350m_goes_through_its_projection_out(tmp_path: Path) -> None:
    """A post-norm OPT: the last layer's closing norm, `project_out`, then the unembedding."""
    folder = save_tiny_model(tmp_path, "opt", word_embed_proj_dim=16, do_layer_norm_before=False)
    effects = logit_effects(load_model(resolve_model(str(folder))), 1, k=KNOWN)
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    decoder = plain.model.decoder
    one = torch.zeros(40)
    one[5] = 1
    write = odd(decoder.layers[1].fc2, one)
    norm = decoder.layers[1].final_layer_norm
    truth = odd(lambda x: plain.lm_head(decoder.project_out(norm(x))), LARGE * write)
    truth = truth * size(write, centred=True)
    ours = np.empty(KNOWN, dtype=np.float32)
    ours[effects.top_ids[5]] = effects.top_values[5]
    np.testing.assert_allclose(ours, truth[:KNOWN].numpy(), rtol=1e-3, atol=1e-5)


def test_the_unembedding_may_be_missing() -> None:
    """A model whose unembedding nobody can name is told so."""
    source = ModelSource("legacy", "x", None, "it", "it", None)
    _, model = native_model()
    model.source = source
    model.tokens = LoadedTokenizer(model.tokenizer, None, None, "")
    model.layout.adapter.component_mapping["unembed"].name = "nowhere"
    with pytest.raises(weights.NeurariumError, match=r"unembedding of 'it' .* cannot be found"):
        logit_effects(model, 0)
