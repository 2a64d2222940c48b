"""Circuits against the full matrices over the whole vocabulary of tiny models."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
from torch import Tensor

from indexer.heads.circuits import Circuits, circuits
from indexer.heads.effects import heads_of, logit_path
from indexer.heads.left_out import left_out
from indexer.heads.neurons import ModelNeurons, NeuronComposition, model_neurons
from indexer.models.loaded import LoadedModel
from indexer.models.norms import scaled_norm
from indexer.models.units import Reader
from indexer.weights.embedding import embedded
from tests.helpers.tiny_heads import attention_only, eager, shared_heads


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


@pytest.fixture(scope="module", params=["native", "llama", "gemma2", "phi3", "gpt_neox"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model of each of five architectures."""
    if request.param == "native":
        return attention_only()[1]
    return shared_heads(request.param, tmp_path_factory.getbasetemp())[1]


def test_the_copying_score_is_that_of_the_full_circuit(model: LoadedModel) -> None:
    """The eigenvalues of the d_vocab × d_vocab matrix, of which few are not 0."""
    everything = torch.arange(model.known_tokens)
    for layer, of_layer in enumerate(found(model, everything[:8])):
        for head in (0, len(of_layer) - 1):
            circuit = of_layer[head]
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


def folded(model: LoadedModel, layer: int, matrix: Tensor) -> Tensor:
    """A matrix that reads the residual stream, with the norm before it folded in."""
    module = model.layout.component(model.root, f"blocks.{layer}.ln1")
    if module is None:
        return matrix
    d_model = model.layout.d_model
    return scaled_norm(module, d_model, model.device).linear(torch.eye(d_model)) @ matrix


def moved(model: LoadedModel, layer: int, head: int) -> Tensor:
    """W_V W_O with the norms around folded in."""
    weights, after = heads_of(model).weights(layer), heads_of(model).norms[layer]
    out = weights.out[head] if after is None else after.linear(weights.out[head])
    return folded(model, layer, weights.value[head]) @ out


def test_composition_is_that_of_the_full_matrices(model: LoadedModel) -> None:
    """‖W_V W_O M‖ ÷ (‖W_V W_O‖ · ‖M‖), with the norms folded in."""
    heads = heads_of(model)
    weights = heads.weights(1)
    assert weights.query is not None
    assert weights.key is not None
    for head, circuit in enumerate(found(model, torch.arange(4))[1]):
        match = folded(model, 1, weights.query[head]) @ folded(model, 1, weights.key[head]).T
        for name, matrix in (
            ("queries", match),
            ("keys", match.T),
            ("values", moved(model, 1, head)),
        ):
            for entry in getattr(circuit, name):
                assert entry.layer == 0
                written = moved(model, 0, entry.head)
                expected = (written @ matrix).norm() / (written.norm() * matrix.norm())
                assert entry.score == pytest.approx(float(expected), rel=1e-3)
            scores = [entry.score for entry in getattr(circuit, name)]
            assert scores == sorted(scores, reverse=True)
            assert len(scores) == heads.widths[0]


def test_neurons_are_composed_with_as_full_matrices_say(model: LoadedModel) -> None:
    """‖u M‖ ÷ (‖u‖ ‖M‖) of all earlier neurons, and ‖W_V W_O w‖ ÷ (‖W_V W_O‖ ‖w‖) of all that read
    later, one vector at a time in float64."""
    if model.layout.mlp_problem:
        assert all(
            c.neurons is None for of_layer in found(model, torch.arange(4)) for c in of_layer
        )
        return
    heads, neurons = heads_of(model), model_neurons(model)
    assert isinstance(neurons, ModelNeurons)
    assert neurons.same_layer == (model.layout.architecture != "GPTNeoXForCausalLM")
    for layer, of_layer in enumerate(found(model, torch.arange(4))):
        weights = heads.weights(layer)
        assert weights.query is not None
        assert weights.key is not None
        for head, circuit in enumerate(of_layer):
            match = (
                folded(model, layer, weights.query[head])
                @ folded(model, layer, weights.key[head]).T
            )
            ov = moved(model, layer, head)
            lists = circuit.neurons
            assert lists is not None
            for got, matrix in ((lists.queries, match), (lists.keys, match.T), (lists.values, ov)):
                scores = {}
                for earlier in range(layer):
                    vectors = neurons.written(earlier)
                    assert isinstance(vectors, Tensor)
                    for neuron, u in enumerate(vectors):
                        reached = (u @ matrix).norm() / (u.norm() * matrix.norm())
                        scores[earlier, neuron, None] = float(reached)
                check_neurons(got, scores)
            scores = {}
            for later in range(layer + (not neurons.same_layer), model.layout.n_layers):
                reader = neurons.readers[later]
                assert isinstance(reader, Reader)
                for part, read in reader.matrices.items():
                    through = reader.gain[:, None] * read.float()
                    if reader.centred:
                        through = through - through.mean(0)
                    for neuron, w in enumerate(through.T):
                        reached = (ov @ w).norm() / (ov.norm() * w.norm())
                        named = part if len(reader.matrices) > 1 else None
                        scores[later, neuron, named] = float(reached)
            check_neurons(lists.readers, scores)


def check_neurons(
    got: list[NeuronComposition] | None, scores: dict[tuple[int, int, str | None], float]
) -> None:
    """The list has the largest scores, in order."""
    assert got is not None
    for entry in got:
        expected = scores[entry.layer, entry.neuron, entry.part]
        assert entry.score == pytest.approx(expected, rel=1e-3)
    best = sorted(scores.values(), reverse=True)[:5]
    assert [entry.score for entry in got] == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox", "gptj", "granite"])
@torch.no_grad()
def test_distance_1_is_what_the_model_itself_scores(
    architecture: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In layer 0, of a text of two tokens: log attention to the first minus that to the second is
    the scale times the difference of both scores."""
    folder, model = shared_heads(architecture, tmp_path_factory.getbasetemp())
    ids = torch.arange(5, 35)
    count = len(ids)
    tokens = torch.stack([ids.repeat(count), ids.repeat_interleave(count)], dim=1)
    attention = eager(folder, model, tokens).patterns[0].double()
    logs = (attention[:, :, 1, 0] / attention[:, :, 1, 1]).log().unflatten(0, (count, count))
    config = model.root.config
    scale = getattr(config, "attention_multiplier", None) or model.layout.d_head**-0.5
    heads = heads_of(model)
    weights, stream = heads.weights(0), embedded(model, ids)
    assert stream is not None
    module = model.layout.component(model.root, "blocks.0.ln1")
    assert module is not None
    read = module(stream)
    for head, circuit in enumerate(found(model, ids)[0]):
        sides = []
        for matrix, bias in (
            (weights.query, weights.query_bias),
            (weights.key, weights.key_bias),
        ):
            assert matrix is not None
            sides.append(read @ matrix[head] + (0 if bias is None else bias[head]))
        own = (sides[0] * sides[1]).sum(1).double()  # at one position: nothing is turned
        table = logs[:, :, head] / scale + own[:, None]  # [query, key]
        values, places = table.flatten().sort(descending=True)
        assert circuit.matched_previous is not None
        pairs = [(int(ids[p // count]), int(ids[p % count])) for p in places[:3].tolist()]
        assert [pair[:2] for pair in circuit.matched_previous[:3]] == pairs
        got = torch.tensor([pair[2] for pair in circuit.matched_previous], dtype=torch.float64)
        torch.testing.assert_close(got, values[:20], rtol=2e-3, atol=2e-3)
        assert circuit.matched_previous != circuit.matched


@pytest.mark.parametrize(
    ("architecture", "named"),
    [
        ("gpt2", ("Positional embeddings", "and of their own")),
        ("gpt_neo", ("Positional embeddings", "Sliding windows")),
        ("gpt_neox", ("parallel attention",)),
        ("qwen3", ("normalises queries and keys",)),
        ("gemma2", ("Sliding windows", "soft cap", "after the attention")),
        ("phi", ("normalises queries and keys",)),
        ("bloom", ("ALiBi",)),
        ("gpt_oss", ("Sink logits", "Sliding windows", "none that can be indexed")),
    ],
)
def test_what_is_left_out_has_a_name(
    architecture: str, named: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Positions, norms on queries and keys, norms after the attention, and what neurons lack."""
    _, model = shared_heads(architecture, tmp_path_factory.getbasetemp())
    lines = left_out(model)
    for words in named:
        assert any(words in line for line in lines), (words, lines)
    turns = architecture in ("gpt_neox", "gemma2", "gpt_oss")
    assert any("relative distance 0" in line for line in lines) == turns
    biased = architecture not in ("qwen3", "gemma2")
    normed = architecture in ("qwen3", "phi")
    assert any("Biases are in the QK" in line for line in lines) == biased
    circuit = found(model, torch.arange(4))[1][0]
    known = not normed
    for part in (circuit.matched, circuit.queries, circuit.keys):
        assert (part is not None) == known
    assert (circuit.matched_previous is not None) == turns
    assert circuit.values
    if circuit.neurons is not None:
        assert (circuit.neurons.queries is not None) == known
        assert circuit.neurons.values


def test_neurons_read_heads_of_their_layer_unless_both_read_the_same(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What TransformerLens calls parallel is what a change of the attention's output shows."""
    for architecture in ("gpt2", "llama", "gpt_neox", "cohere", "gemma2", "bloom"):
        _, model = shared_heads(architecture, tmp_path_factory.getbasetemp())
        mlp = model.layout.component(model.root, "blocks.0.mlp")
        out = model.layout.component(model.root, "blocks.0.attn.o")
        assert mlp is not None
        assert out is not None
        inputs: list[Tensor] = []
        tokens = torch.arange(5, 12)[None]
        with torch.no_grad(), ExitStack() as hooks:
            hooks.callback(
                mlp.register_forward_pre_hook(
                    lambda _, args, into=inputs: into.append(args[0].clone())
                ).remove
            )
            model.root(input_ids=tokens)
            hooks.callback(out.register_forward_hook(lambda _m, _args, x: x * 2).remove)
            model.root(input_ids=tokens)
        neurons = model_neurons(model)
        assert isinstance(neurons, ModelNeurons)
        assert neurons.same_layer == (not torch.equal(*inputs[:2])), architecture
