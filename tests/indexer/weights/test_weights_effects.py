"""Logit effects against finite differences through the real modules, their spread against numpy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from indexer.errors import NeurariumError
from indexer.models.asked import Asked
from indexer.models.load import load_model
from indexer.models.source import ModelSource, resolve_model
from indexer.weights import effects as weights_effects
from indexer.weights.effects import LogitEffects, logit_effects
from indexer.weights.units import write_vectors
from tests.helpers.tiny_models import save_tiny_model
from tests.helpers.weight_oracles import KNOWN, LARGE, odd, ranked, size
from tests.indexer.models.test_model_native import native_model

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


def fake(unembedding: Tensor, vectors: Tensor, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model whose write vectors and unembedding are given, without a final norm."""

    class Layout:
        def logit_scale(self) -> float:
            return 1.0

    class Model:
        layout = Layout()
        known_tokens = d_vocab = unembedding.shape[0]

    monkeypatch.setattr(weights_effects, "write_vectors", lambda *_: vectors)
    monkeypatch.setattr(weights_effects, "through_final_norm", lambda _model, x: x)
    monkeypatch.setattr(weights_effects, "unembedding", lambda _model: unembedding)
    return Model()


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
    monkeypatch.setattr(weights_effects, "_BLOCK", 200)
    monkeypatch.setattr(weights_effects, "_CHUNK", 100)
    effects = logit_effects(model, 0, k=15)
    for neuron, vector in enumerate(vectors):
        values = (unembedding @ vector).tolist()
        order = ranked(values, 15)
        assert effects.top_ids[neuron].tolist() == order
        assert effects.top_values[neuron].tolist() == [values[i] for i in order]
        assert effects.bottom_ids[neuron].tolist() == ranked([-value for value in values], 15)
        assert effects.histogram_counts[neuron].tolist() == counted(np.array(values)).tolist()


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
    before = logit_effects(load_model(source, asked=Asked("mlp.hook_pre")), 1)
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
    model = replace(native_model()[1], source=source)
    model.layout.adapter.component_mapping["unembed"].name = "nowhere"
    with pytest.raises(NeurariumError, match=r"unembedding of 'it' .* cannot be found"):
        logit_effects(model, 0)


def counted(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """numpy's histogram in float64; all in the first bin where all are equal."""
    values = values.astype(np.float64)
    if values.min() == values.max():
        return np.array([len(values)] + [0] * 40)
    return np.histogram(values, 41)[0]


def check_distribution(effects: LogitEffects, every: np.ndarray[Any, Any]) -> None:
    """All that is said of the distribution of [neurons, size] effects, against numpy."""
    every = every.astype(np.float64)
    for neuron, values in enumerate(every):
        np.testing.assert_array_equal(effects.histogram_counts[neuron], counted(values))
        width = (values.max() - values.min()) / 41
        np.testing.assert_array_equal(effects.histogram_range[neuron], [values.min(), width])
        deviations = values - values.mean()
        np.testing.assert_allclose(effects.mean[neuron], values.mean(), rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(effects.std[neuron], values.std(), rtol=1e-6)
        if width == 0:
            assert np.isnan(effects.kurtosis[neuron])
            continue
        deviations /= values.std()
        expected = (deviations**4).mean() - 3
        np.testing.assert_allclose(effects.kurtosis[neuron], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "cohere"])
def test_the_distribution_is_that_of_all_effects(tiny: dict[str, Path], architecture: str) -> None:
    """Histogram and moments are numpy's, over every known token and no other."""
    effects = logit_effects(load_model(resolve_model(str(tiny[architecture]))), 1, k=KNOWN)
    every = np.empty_like(effects.top_values)
    np.put_along_axis(every, effects.top_ids, effects.top_values, axis=1)
    assert effects.histogram_counts.dtype == np.int32
    assert (effects.histogram_counts.sum(axis=1) == KNOWN).all()
    check_distribution(effects, every)


def test_bins_are_exact_at_their_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Effects on the edges of bins, and one step of float32 beside them, are where numpy has them,
    whatever the neuron's scale: denormal numbers, a narrow range far from 0, all equal."""
    edges = np.linspace(-1.5, 2.6, 42, dtype=np.float32)
    rng = np.random.default_rng(0)
    inner = edges[1:-1]
    column = np.concatenate(
        [
            edges,
            np.nextafter(inner, np.float32(-9)),
            np.nextafter(inner, np.float32(9)),
            rng.uniform(-1.5, 2.6, 5000).astype(np.float32),
        ]
    )
    scales = np.array([1, -1, 3, 1e-3, 1e30, 1e-30, 1e-42, 0], dtype=np.float32)
    unembedding = torch.from_numpy(np.stack([column, np.ones_like(column)], axis=1))
    vectors = torch.from_numpy(np.stack([scales, np.zeros_like(scales)], axis=1))
    vectors = torch.cat([vectors, torch.tensor([[1e-4, 1000.0], [0.0, 2.5]])])
    model = fake(unembedding, vectors, monkeypatch)
    effects = logit_effects(model, 0, k=len(column))
    every = np.empty_like(effects.top_values)
    np.put_along_axis(every, effects.top_ids, effects.top_values, axis=1)
    for neuron, values in enumerate(every):
        np.testing.assert_array_equal(effects.histogram_counts[neuron], counted(values))
    assert np.isnan(effects.kurtosis[[7, 9]]).all()
    assert effects.histogram_range[9].tolist() == [2.5, 0]
    usual = [0, 1, 2, 3, 4, 5]
    kurtosis = effects.kurtosis[usual]
    np.testing.assert_allclose(kurtosis, kurtosis[0], rtol=1e-5)
    check_distribution(
        LogitEffects(*(field[usual] for field in vars(effects).values())), every[usual]
    )


def test_a_stored_bfloat16_unembedding_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unembedding that is not float32 gives what its float32 copy gives."""
    generator = torch.Generator().manual_seed(0)
    unembedding = torch.randint(-3, 4, (50, 4), generator=generator).float()
    vectors = torch.randint(-2, 3, (9, 4), generator=generator).float()
    whole = logit_effects(fake(unembedding, vectors, monkeypatch), 0)
    monkeypatch.setattr(weights_effects, "_CHUNK", 12)
    pieces = logit_effects(fake(unembedding.bfloat16(), vectors, monkeypatch), 0)
    for one, other in zip(vars(whole).values(), vars(pieces).values(), strict=True):
        np.testing.assert_array_equal(one, other)
