"""All facts of a layer together: names, dtypes, and what is left out where it does not apply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from indexer.models.load import load_model
from indexer.models.loaded import LoadedModel
from indexer.models.source import resolve_model
from indexer.store.packing.codec import NEURON_ARRAYS
from indexer.weights.effects import logit_effects
from indexer.weights.facts import weight_facts
from indexer.weights.units import write_vectors
from tests.helpers.tiny_models import save_tiny_model
from tests.indexer.models.test_model_native import native_model
from tests.indexer.weights.test_weights_links import reads_by_hand

EFFECTS = {
    "logit_values": 30,
    "logit_token_ids": 30,
    "effect_histogram_range": 2,
    "effect_histogram_counts": 41,
    "effect_moments": 2,
}
INPUT = {"in_values": 20, "in_token_ids": 20}
GATE = {"gate_values": 20, "gate_token_ids": 20}
ALIKE = {"alike_neurons": 5, "alike_values": 5}
UPSTREAM = {f"upstream_{what}": 5 for what in ("neurons", "values", "parts")}
DOWNSTREAM = {f"downstream_{what}": 5 for what in ("neurons", "values", "parts")}


def loaded(folder: Path, architecture: str, **changes: Any) -> LoadedModel:
    """A tiny model, saved and loaded as a user's would be."""
    return load_model(resolve_model(str(save_tiny_model(folder, architecture, **changes))))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_layers_facts_have_the_stores_names_and_dtypes(architecture: str, tmp_path: Path) -> None:
    """A first layer has nothing upstream, a last one nothing downstream, an ungated one no gate."""
    model = loaded(tmp_path, architecture)
    facts_of = weight_facts(model)
    common = EFFECTS | INPUT | ALIKE | (GATE if model.layout.gated else {})
    for layer, lists in ((0, DOWNSTREAM), (1, UPSTREAM)):
        facts = facts_of(layer)
        shapes = {name: values.shape for name, values in facts.arrays.items()}
        width = model.units.widths[layer]
        assert shapes == {name: (width, count) for name, count in (common | lists).items()}
        for name, values in facts.arrays.items():
            assert values.dtype == np.dtype(NEURON_ARRAYS[name]), name
            assert np.isfinite(values).all(), name
        cosines = {"in_out_cosine", "gate_out_cosine"} if model.layout.gated else {"in_out_cosine"}
        assert facts.scalars.keys() == {"effect_kurtosis"} | cosines
        for values in facts.scalars.values():
            assert values.shape == (width,)
            assert values.dtype == np.float64


def test_the_logit_effects_are_those_of_logit_effects(tmp_path: Path) -> None:
    """Promoted tokens, then suppressed ones; the moments beside them."""
    model = loaded(tmp_path, "gpt2")
    facts, effects = weight_facts(model)(1), logit_effects(model, 1)
    arrays = facts.arrays
    np.testing.assert_array_equal(arrays["logit_token_ids"][:, :15], effects.top_ids)
    np.testing.assert_array_equal(arrays["logit_values"][:, 15:], effects.bottom_values)
    np.testing.assert_array_equal(arrays["effect_moments"][:, 0], effects.mean)
    np.testing.assert_array_equal(arrays["effect_moments"][:, 1], effects.std)
    np.testing.assert_array_equal(facts.scalars["effect_kurtosis"], effects.kurtosis)


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "gemma2", "phi3", "olmo2"])
def test_the_cosine_is_of_what_is_read_and_what_is_written(
    architecture: str, tmp_path: Path
) -> None:
    """The norm folded into the matrix by hand, centred for a LayerNorm; the write vector as is."""
    model = loaded(tmp_path, architecture)
    scalars = weight_facts(model, connections=False)(1).scalars
    writes = write_vectors(model, 1).double().numpy()
    reads = reads_by_hand(model, architecture, 1)
    for part, read in reads.items():
        lengths = np.linalg.norm(read, axis=1) * np.linalg.norm(writes, axis=1)
        expected = (read * writes).sum(axis=1) / lengths
        np.testing.assert_allclose(scalars[f"{part}_out_cosine"], expected, rtol=1e-3, atol=1e-4)
    assert len(scalars) == 1 + len(reads)


def test_connections_can_be_left_out(tmp_path: Path) -> None:
    """Without them no list of neurons is made, and all else is the same."""
    model = loaded(tmp_path, "llama")
    with_them, without = weight_facts(model)(1), weight_facts(model, connections=False)(1)
    assert with_them.arrays.keys() - without.arrays.keys() == (ALIKE | UPSTREAM).keys()
    for name, values in without.arrays.items():
        np.testing.assert_array_equal(values, with_them.arrays[name])


def test_a_model_of_one_layer_has_no_streams(tmp_path: Path) -> None:
    """Its neurons are alike among themselves, and none is upstream or downstream."""
    facts = weight_facts(loaded(tmp_path, "gpt2", n_layer=1))(0)
    assert facts.arrays.keys() == (EFFECTS | INPUT | ALIKE).keys()
    assert facts.arrays["alike_neurons"].max() < 40


def test_a_neuron_of_zeros_has_no_nan_but_its_kurtosis(tmp_path: Path) -> None:
    """Its cosines are 0, its effects are all 0, its lists are in order of index."""
    model = loaded(tmp_path, "llama")
    mlp: Any = model.root.get_submodule("model.layers.1.mlp")
    with torch.no_grad():
        mlp.down_proj.weight[:, 3] = 0
        mlp.up_proj.weight[3] = 0
        mlp.gate_proj.weight[3] = 0
    facts = weight_facts(model)(1)
    assert np.isnan(facts.scalars["effect_kurtosis"]).tolist() == [i == 3 for i in range(48)]
    assert facts.scalars["in_out_cosine"][3] == facts.scalars["gate_out_cosine"][3] == 0
    for values in facts.arrays.values():
        assert np.isfinite(values).all()
    own = {name: values[3].tolist() for name, values in facts.arrays.items()}
    assert own["effect_histogram_counts"] == [316] + [0] * 40
    assert own["effect_histogram_range"] == own["effect_moments"] == [0, 0]
    assert own["alike_neurons"] == [0, 1, 2, 3, 4]
    assert own["upstream_neurons"] == [0, 0, 1, 1, 2]
    assert own["upstream_parts"] == [0, 1, 0, 1, 0]
    assert own["in_token_ids"] == [*range(10), *range(10)]
    assert own["alike_values"] == own["upstream_values"] == [0] * 5


def test_facts_are_the_same_each_time(tmp_path: Path) -> None:
    """One model, one device, one answer, to the last bit."""
    model = loaded(tmp_path, "gemma2")
    first, second = (weight_facts(model) for _ in range(2))
    for layer in (0, 1):
        one, other = first(layer), second(layer)
        for name, values in (one.arrays | one.scalars).items():
            again = (other.arrays | other.scalars)[name]
            assert values.tobytes() == again.tobytes(), name


def test_a_bfloat16_model_has_its_float32_copys_facts(tmp_path: Path) -> None:
    """All is computed in float32 from the stored weights; only the embeddings keep their dtype."""
    folder = save_tiny_model(tmp_path / "one", "llama")
    rounded = transformers.AutoModelForCausalLM.from_pretrained(folder).bfloat16().float()
    rounded.save_pretrained(folder)
    small = weight_facts(load_model(resolve_model(str(folder)), dtype="bfloat16"))
    exact = weight_facts(load_model(resolve_model(str(folder)), dtype="float32"))
    for layer in (0, 1):
        one, other = small(layer), exact(layer)
        for name, values in (one.arrays | one.scalars).items():
            np.testing.assert_allclose(
                values, (other.arrays | other.scalars)[name], rtol=1e-4, atol=1e-5, err_msg=name
            )


def test_a_native_model_has_all_facts() -> None:
    """TransformerLens's own models too, SoLU before its LayerNorm."""
    _, model = native_model()
    facts_of = weight_facts(model)
    assert facts_of(0).arrays.keys() == (EFFECTS | INPUT | ALIKE | DOWNSTREAM).keys()
    assert facts_of(1).arrays.keys() == (EFFECTS | INPUT | ALIKE | UPSTREAM).keys()
