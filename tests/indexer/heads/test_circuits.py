"""Circuits against the full matrices over the whole vocabulary of tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from indexer.heads.circuits import Circuits, circuits, left_out
from indexer.heads.effects import heads_of, logit_path
from indexer.models.loaded import LoadedModel
from indexer.models.norms import scaled_norm
from indexer.weights.embedding import embedded
from tests.helpers.tiny_heads import attention_only, tiny_heads


def found(model: LoadedModel, ids: Tensor) -> list[list[Circuits]]:
    return list(circuits(model, ids))


def by_hand(model: LoadedModel, layer: int, head: int, ids: Tensor, *, scaled: bool) -> Tensor:
    """The OV circuit [source, destination] over `ids`, matrix by matrix in float64."""
    heads, path = heads_of(model), logit_path(model)
    assert path is not None
    stream = embedded(model, ids)
    assert stream is not None
    module = model.layout.component(model.root, f"blocks.{layer}.ln1")
    if module is not None:
        norm = scaled_norm(module, model.layout.d_model, model.device)
        scale = norm.scale(stream)[:, None] if scaled else 1
        stream = norm.linear(stream) / scale
    weights = heads.weights(layer)
    out = (stream @ weights.value[head]).double() @ weights.out[head].double()
    after = heads.norms[layer]
    if after is not None:
        out = after.linear(out.float()).double()
    if path.norm is not None:
        out = path.norm.linear(out.float()).double()
    return out @ path.unembedding[ids].double().T * path.logit_scale


@pytest.fixture(scope="module", params=["native", "llama", "gemma2", "phi3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model of each of four architectures."""
    if request.param == "native":
        return attention_only()[1]
    return tiny_heads(tmp_path_factory.mktemp("circuits") / request.param, request.param)


def test_the_copying_score_is_that_of_the_full_circuit(model: LoadedModel) -> None:
    """The eigenvalues of the d_vocab × d_vocab matrix, of which few are not 0."""
    everything = torch.arange(model.known_tokens)
    for layer, of_layer in enumerate(found(model, everything[:8])):
        for head, circuit in enumerate(of_layer):
            table = by_hand(model, layer, head, everything, scaled=False)
            eigenvalues = torch.linalg.eigvals(table)
            expected = float(eigenvalues.real.sum() / eigenvalues.abs().sum())
            assert circuit.copying == pytest.approx(expected, abs=1e-4)


def test_promoted_tokens_are_the_largest_entries(model: LoadedModel) -> None:
    """Pairs, order and the share of tokens that raise themselves most."""
    ids = torch.arange(5, 65)
    multiplier = heads_of(model).residual_multiplier
    for layer, of_layer in enumerate(found(model, ids)):
        for head, circuit in enumerate(of_layer):
            table = by_hand(model, layer, head, ids, scaled=True) * multiplier
            values, places = table.flatten().sort(descending=True)
            assert circuit.promoted is not None
            assert [pair[:2] for pair in circuit.promoted[:5]] == [
                (int(ids[place // 60]), int(ids[place % 60])) for place in places[:5].tolist()
            ]
            got = torch.tensor([pair[2] for pair in circuit.promoted], dtype=torch.float64)
            torch.testing.assert_close(got, values[:20], rtol=1e-3, atol=1e-5)
            share = (table.argmax(1) == torch.arange(60)).double().mean()
            assert circuit.self_share == pytest.approx(float(share), abs=1e-6)


def test_matched_tokens_attend_most_in_the_first_layer() -> None:
    """Without positions, the model's own scores of two tokens in layer 0 are query · key."""
    bridge, model = attention_only(positional_embedding_type="rotary")
    ids = torch.arange(5, 45)
    _, cache = bridge.run_with_cache(ids[:, None])  # each token alone, at position 0
    queries, keys = (cache[f"blocks.0.attn.hook_{name}"].reshape(40, 3, 8) for name in "qk")
    for head, circuit in enumerate(found(model, ids)[0]):
        table = queries[:, head] @ keys[:, head].T
        values, places = table.flatten().sort(descending=True)
        assert circuit.matched is not None
        assert circuit.matched[0][:2] == (int(ids[places[0] // 40]), int(ids[places[0] % 40]))
        got = torch.tensor([pair[2] for pair in circuit.matched])
        torch.testing.assert_close(got, values[:20].detach(), rtol=1e-3, atol=1e-4)


def test_composition_is_that_of_the_full_matrices(model: LoadedModel) -> None:
    """‖W_V W_O M‖ ÷ (‖W_V W_O‖ · ‖M‖), with the norms folded in."""
    heads, d_model = heads_of(model), model.layout.d_model

    def folded(layer: int, matrix: Tensor) -> Tensor:
        module = model.layout.component(model.root, f"blocks.{layer}.ln1")
        if module is None:
            return matrix
        return scaled_norm(module, d_model, model.device).linear(torch.eye(d_model)) @ matrix

    def moved(layer: int, head: int) -> Tensor:
        weights, after = heads.weights(layer), heads.norms[layer]
        out = weights.out[head] if after is None else after.linear(weights.out[head])
        return folded(layer, weights.value[head]) @ out

    weights = heads.weights(1)
    assert weights.query is not None
    assert weights.key is not None
    for head, circuit in enumerate(found(model, torch.arange(4))[1]):
        match = folded(1, weights.query[head]) @ folded(1, weights.key[head]).T
        for name, matrix in (("queries", match), ("keys", match.T), ("values", moved(1, head))):
            for entry in getattr(circuit, name):
                assert entry.layer == 0
                written = moved(0, entry.head)
                expected = (written @ matrix).norm() / (written.norm() * matrix.norm())
                assert entry.score == pytest.approx(float(expected), rel=1e-3)
            scores = [entry.score for entry in getattr(circuit, name)]
            assert scores == sorted(scores, reverse=True)
            assert len(scores) == heads.widths[0]


def test_what_is_left_out_has_a_name(tmp_path: Path) -> None:
    """Positions, norms on queries and keys, norms after the attention."""
    said = left_out(tiny_heads(tmp_path / "qwen3", "qwen3"))
    assert any("normalises queries and keys" in line for line in said)
    assert any("Rotary" in line for line in said)
    circuit = found(tiny_heads(tmp_path / "qwen3b", "qwen3"), torch.arange(4))[1][0]
    assert (circuit.matched, circuit.queries, circuit.keys) == (None, None, None)
    assert circuit.values
    assert any("Positional embeddings" in line for line in left_out(attention_only()[1]))
