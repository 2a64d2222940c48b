"""Links between neurons against brute force in float64."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from indexer.models.load import load_model
from indexer.models.loaded import LoadedModel
from indexer.models.source import resolve_model
from indexer.models.units import Reader
from indexer.weights import links as weights_links
from indexer.weights.links import Links
from indexer.weights.units import readers, write_vectors
from tests.helpers.tiny_models import save_tiny_model
from tests.helpers.weight_oracles import unit

Array = np.ndarray[Any, Any]

LINKED: dict[str, tuple[str, str | None, dict[str, str]]] = {
    "gpt2": ("transformer.h.{}", "ln_2", {"in": "mlp.c_fc"}),
    "gpt_neox": (
        "gpt_neox.layers.{}",
        "post_attention_layernorm",
        {"in": "mlp.dense_h_to_4h"},
    ),
    "llama": (
        "model.layers.{}",
        "post_attention_layernorm",
        {"in": "mlp.up_proj", "gate": "mlp.gate_proj"},
    ),
    "gemma2": (
        "model.layers.{}",
        "pre_feedforward_layernorm",
        {"in": "mlp.up_proj", "gate": "mlp.gate_proj"},
    ),
    "phi3": ("model.layers.{}", "post_attention_layernorm", {"fused": "mlp.gate_up_proj"}),
    "olmo2": ("model.layers.{}", None, {"in": "mlp.up_proj", "gate": "mlp.gate_proj"}),
    "gptj": ("transformer.h.{}", "ln_1", {"in": "mlp.fc_in"}),
}
"""By hand: the blocks, the norm before the MLP, the matrices neurons read with."""
CENTRED = ("gpt2", "gpt_neox", "gptj")


def reads_by_hand(model: LoadedModel, architecture: str, layer: int) -> dict[str, Array]:
    """What each neuron reads, the norm folded in, from the weights as transformers names them."""
    block, norm, matrices = LINKED[architecture]
    inside = model.root.get_submodule(block.format(layer))
    found: dict[str, Array] = {}
    for part, name in matrices.items():
        module: Any = inside.get_submodule(name)
        weight = module.weight.detach().double().numpy()
        if architecture == "gpt2":
            weight = weight.T
        if part == "fused":
            found["gate"], found["in"] = np.split(weight, 2)
        else:
            found[part] = weight
    gain = np.ones(32)
    if norm is not None:
        weights: Any = inside.get_submodule(norm).weight
        gain = weights.detach().double().numpy() + (architecture == "gemma2")
    found = {part: weight * gain for part, weight in found.items()}
    if architecture in CENTRED:
        found = {part: weight - weight.mean(1, keepdims=True) for part, weight in found.items()}
    return found


def brute_force(
    writes: list[Array], reads: list[dict[str, Array]], layer: int
) -> list[dict[str, list[tuple[int, int, float]]]]:
    """The lists of a layer's neurons as (neuron, part, value), each pair looked at alone."""
    offsets = np.cumsum([0, *(len(some) for some in writes)])
    units = np.concatenate([unit(some) for some in writes])
    lists = []
    for neuron, written in enumerate(writes[layer]):
        flat = int(offsets[layer]) + neuron
        alike = [(-v, i, 0) for i, v in enumerate(units @ units[flat]) if i != flat]
        up, down = [], []
        for number, part in enumerate(("in", "gate")):
            for other in range(len(writes)):
                if part in reads[layer] and other < layer:
                    read = reads[layer][part][neuron]
                    for i, vector in enumerate(writes[other]):
                        up.append((int(offsets[other]) + i, number, float(vector @ read)))
                if part in reads[other] and other > layer:
                    for i, read in enumerate(reads[other][part]):
                        down.append((int(offsets[other]) + i, number, float(written @ read)))
        strongest = {
            name: sorted(found, key=lambda link: (-abs(link[2]), link[0], link[1]))[:5]
            for name, found in (("upstream", up), ("downstream", down))
        }
        best = [(i, part, -v) for v, i, part in sorted(alike)[:5]]
        lists.append({"alike": best} | strongest)
    return lists


def check(
    links: Links, layer: int, expected: list[dict[str, list[tuple[int, int, float]]]]
) -> None:
    """The layer's lists are those of brute force, and absent where those are empty."""
    lists = links.of(layer)
    for name in ("alike", "upstream", "downstream"):
        rows = [row[name] for row in expected]
        if not rows[0]:
            assert f"{name}_neurons" not in lists
            assert f"{name}_values" not in lists
            continue
        neurons, values = lists[f"{name}_neurons"], lists[f"{name}_values"]
        assert (neurons.dtype, values.dtype) == (np.int32, np.float32)
        assert neurons.tolist() == [[neuron for neuron, _, _ in row] for row in rows]
        truth = [[value for _, _, value in row] for row in rows]
        np.testing.assert_allclose(values, truth, rtol=1e-3, atol=1e-5)
        if name != "alike":
            parts = lists[f"{name}_parts"]
            assert parts.dtype == np.uint8
            assert parts.tolist() == [[part for _, part, _ in row] for row in rows]


@pytest.mark.parametrize("tile", [2048, 17])
@pytest.mark.parametrize("architecture", LINKED)
def test_links_are_those_of_brute_force(
    architecture: str, tile: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three layers, every list, in one piece and in many."""
    monkeypatch.setattr(weights_links, "_TILE", tile)
    counts = {"gpt2": "n_layer", "gptj": "n_layer"}
    deeper: dict[str, Any] = {counts.get(architecture, "num_hidden_layers"): 3}
    if architecture == "gemma2":
        deeper["layer_types"] = ["sliding_attention", "full_attention", "sliding_attention"]
    folder = save_tiny_model(tmp_path, architecture, **deeper)
    model = load_model(resolve_model(str(folder)))
    writes = [write_vectors(model, layer).double().numpy() for layer in range(3)]
    reads = [reads_by_hand(model, architecture, layer) for layer in range(3)]
    links = Links(model, readers(model))
    for layer in range(3):
        check(links, layer, brute_force(writes, reads, layer))


def fake(
    writes: list[Array], reads: list[dict[str, Array]], monkeypatch: pytest.MonkeyPatch
) -> Links:
    """The links of a model whose vectors are given, without norms."""
    vectors = [torch.from_numpy(some).float() for some in writes]
    monkeypatch.setattr(weights_links, "write_vectors", lambda _, layer: vectors[layer])
    model: Any = SimpleNamespace(
        units=SimpleNamespace(widths=tuple(len(some) for some in writes)),
        layout=SimpleNamespace(n_layers=len(writes)),
        device=torch.device("cpu"),
    )
    ones = torch.ones(writes[0].shape[1])
    ways = tuple(
        Reader(None, ones, False, {part: torch.from_numpy(m).float().T for part, m in some.items()})
        if some
        else None
        for some in reads
    )
    return Links(model, ways)


def axes(rng: np.random.Generator, neurons: int) -> Array:
    """Vectors along an axis, some of them 0: their cosines are exactly −1, 0 and 1."""
    vectors = np.zeros((neurons, 4))
    vectors[np.arange(neurons), rng.integers(0, 4, neurons)] = rng.integers(-2, 3, neurons)
    return vectors


@pytest.mark.parametrize("tile", [2048, 3])
def test_ties_go_to_the_lower_neuron_and_to_in_before_gate(
    tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small whole numbers, so that most products are equal; layers of different widths, one of
    which nothing is known to read; neurons that write and read nothing."""
    monkeypatch.setattr(weights_links, "_TILE", tile)
    rng = np.random.default_rng(0)
    widths = (7, 9, 4, 8)
    writes = [axes(rng, width) for width in widths]
    reads: list[dict[str, Array]] = [
        {part: rng.integers(-1, 2, (width, 4)).astype(float) for part in ("in", "gate")}
        for width in widths
    ]
    reads[2] = {}
    links = fake(writes, reads, monkeypatch)
    for layer in range(4):
        check(links, layer, brute_force(writes, reads, layer))


def test_layers_may_be_asked_for_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later layer first, an earlier one after it, one twice: each has its own lists."""
    rng = np.random.default_rng(1)
    writes = [rng.standard_normal((6, 4)) for _ in range(3)]
    reads = [{"in": rng.standard_normal((6, 4))} for _ in range(3)]
    links = fake(writes, reads, monkeypatch)
    for layer in (2, 0, 1, 2):
        check(links, layer, brute_force(writes, reads, layer))


def test_fewer_candidates_make_shorter_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two neurons a layer: three others in all, two a layer further; a lone neuron has no list."""
    rng = np.random.default_rng(2)
    writes = [rng.standard_normal((2, 4)) for _ in range(2)]
    reads = [{"in": rng.standard_normal((2, 4))} for _ in range(2)]
    links = fake(writes, reads, monkeypatch)
    assert links.of(0)["alike_neurons"].shape == (2, 3)
    assert links.of(1)["upstream_neurons"].shape == (2, 2)
    for layer in (0, 1):
        check(links, layer, brute_force(writes, reads, layer))
    assert fake([writes[0][:1]], [{}], monkeypatch).of(0) == {}
