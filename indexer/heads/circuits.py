"""What follows from the weights of heads alone: the OV circuit (what a head moves), the QK circuit
(what it looks for) and composition with earlier heads and MLP neurons (Elhage et al. 2021).

Norms are folded into the matrices that read and write. Where a token's embedding is read, it is
divided by the norm's scale of that embedding by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from indexer.heads.effects import LogitPath, heads_of, logit_path
from indexer.heads.folded import FoldedLayer, factor, folded, norms
from indexer.heads.neurons import ModelNeurons, NeuronLists, compositions, model_neurons
from indexer.models.loaded import LoadedModel
from indexer.models.rotary import Rotation
from indexer.models.units import Unknown
from indexer.weights.embedding import embedded

FREQUENT = 4096
"""Most frequent tokens of the corpus that circuits are asked about."""
TOP_PAIRS = 20
TOP_EARLIER = 5
"""Earlier heads named for each way of composing."""
_CHUNK = 8192
"""Tokens of the vocabulary embedded at once."""

Pair = tuple[int, int, float]
"""Source and destination token of the OV circuit, query and key token of the QK circuit, value."""


@dataclass(frozen=True)
class Composition:
    """An earlier head whose output this head may read, and how strongly: ‖product‖ ÷ (‖A‖ · ‖B‖) of
    the two heads' matrices, Frobenius norms."""

    layer: int
    head: int
    score: float


@dataclass(frozen=True)
class Circuits:
    """One head's circuits; None where not known, see `left_out`."""

    copying: float | None
    """Σ Re λ ÷ Σ |λ| over the eigenvalues of the full OV circuit: 1 where every token raises
    itself, −1 where it lowers itself."""
    promoted: list[Pair] | None
    """Among frequent tokens: attending to the first raises the second's logit most."""
    self_share: float | None
    """The share of frequent tokens that raise themselves most, among frequent tokens."""
    matched: list[Pair] | None
    """Among frequent tokens: the query token and the key token with the largest query · key. With
    rotary positions (RoPE) at relative distance 0: each token at the same position."""
    matched_previous: list[Pair] | None
    """The same at relative distance 1: the key right before the query. None without rotary
    positions, where distance changes nothing."""
    queries: list[Composition] | None
    keys: list[Composition] | None
    values: list[Composition]
    neurons: NeuronLists | None
    """None where the model's MLP neurons are not known, or where it has none."""


@torch.inference_mode()
def circuits(model: LoadedModel, frequent: Int[Tensor, " n"]) -> Iterator[list[Circuits]]:
    """The circuits of all heads, layer by layer. `frequent` are ids of frequent tokens. Raises
    `NeurariumError` if the model was loaded for other units, or its weights are quantised."""
    heads, path = heads_of(model), logit_path(model)
    layers = [folded(model, layer) for layer in range(model.layout.n_layers)]
    neurons, rotations = model_neurons(model), heads.rotations
    frequent = frequent.to(model.device)
    stream = embedded(model, frequent)
    gram = None if path is None else _token_gram(model, path)
    unembed = None if path is None else path.directions(frequent)
    for layer, own in enumerate(layers):
        earlier = layers[:layer]
        queries = _composition(own, earlier, "query")
        keys = _composition(own, earlier, "key")
        values = _composition(own, earlier, "value")
        assert values is not None  # values are always known
        with_neurons = None
        if isinstance(neurons, ModelNeurons):
            with_neurons = compositions(layer, own, neurons)
        found = []
        for head in range(heads.widths[layer]):
            copying, promoted, self_share = None, None, None
            if gram is not None and stream is not None and unembed is not None:
                copying = _copying(own, head, gram)
                tokens = own.tokens(stream) @ own.read["value"][head] @ own.write[head]
                table = tokens @ unembed.T * heads.residual_multiplier
                promoted, self_share = _top_pairs(table, frequent), _self_share(table)
            scores = _scores(own, head, stream, rotations[layer])
            found.append(
                Circuits(
                    copying=copying,
                    promoted=promoted,
                    self_share=self_share,
                    matched=None if scores is None else _top_pairs(scores[0], frequent),
                    matched_previous=None
                    if scores is None or scores[1] is None
                    else _top_pairs(scores[1], frequent),
                    queries=None if queries is None else queries[head],
                    keys=None if keys is None else keys[head],
                    values=values[head],
                    neurons=None if with_neurons is None else with_neurons[head],
                )
            )
        yield found


def _token_gram(model: LoadedModel, path: LogitPath) -> Float[Tensor, "d_model d_model"] | None:
    """Σ over all tokens of (how the logit reads) ⊗ (embedding): W_U W_E without the vocabulary."""
    total = None
    for first in range(0, model.known_tokens, _CHUNK):
        ids = torch.arange(first, min(first + _CHUNK, model.known_tokens), device=model.device)
        stream = embedded(model, ids)
        if stream is None:
            return None
        part = path.directions(ids).T @ stream
        total = part if total is None else total + part
    return total


def _copying(own: FoldedLayer, head: int, gram: Float[Tensor, "d_model d_model"]) -> float:
    """The copying score, Σ Re λ ÷ Σ |λ| (Elhage et al. 2021). The eigenvalues of the d_vocab ×
    d_vocab circuit W_E W_V W_O W_U that are not 0 are those of a d_head × d_head matrix. `gram` is
    W_U W_E."""
    small = own.write[head] @ gram @ own.read["value"][head]
    eigenvalues = torch.linalg.eigvals(small.double().cpu())
    total = float(eigenvalues.abs().sum())
    return float(eigenvalues.real.sum()) / total if total else 0.0


def _scores(
    own: FoldedLayer,
    head: int,
    stream: Float[Tensor, "n d_model"] | None,
    rotation: Rotation | Unknown,
) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"] | None] | None:
    """Query · key of every token with every token, at relative distances 0 and 1; None where it is
    not known, or for distance 1 where distance changes nothing."""
    if stream is None or "query" not in own.read or "key" not in own.read:
        return None
    tokens = own.tokens(stream)
    sides = []
    for name, bias in (("query", own.weights.query_bias), ("key", own.weights.key_bias)):
        side = tokens @ own.read[name][head]
        if own.norm is not None:  # the norm's own bias, through the matrix
            matrix = own.weights.query if name == "query" else own.weights.key
            assert matrix is not None  # `read` has it
            side = side + own.norm.bias @ matrix[head]
        sides.append(side if bias is None else side + bias[head])
    queries, keys = sides
    table = queries @ keys.T
    if isinstance(rotation, Unknown) or not len(rotation.angles):
        return table, None
    # Only the difference of positions matters, so the key stays at position 0.
    return table, rotation.turned(queries, 1) @ keys.T


def _top_pairs(table: Float[Tensor, "n n"], ids: Int[Tensor, " n"]) -> list[Pair]:
    """The largest entries with their tokens, largest first. They are in the rows with the largest
    maxima, so only these are sorted."""
    k = min(TOP_PAIRS, table.shape[0])
    rows = table.amax(dim=1).topk(k).indices.sort().values
    values, places = table[rows].flatten().topk(min(TOP_PAIRS, k * table.shape[1]))
    sources = ids[rows[places // table.shape[1]]].tolist()
    targets = ids[places % table.shape[1]].tolist()
    return list(zip(sources, targets, values.tolist(), strict=True))


def _self_share(table: Float[Tensor, "n n"]) -> float:
    return float((table.diagonal() >= table.amax(dim=1)).float().mean())


def _composition(
    own: FoldedLayer, earlier: list[FoldedLayer], name: str
) -> list[list[Composition]] | None:
    """For each head the earlier heads it composes with most, by its queries, keys or values. Scores
    are ‖A B‖ ÷ (‖A‖ · ‖B‖), Frobenius norms (Elhage et al. 2021). None where a matrix is not
    known."""
    if name not in own.read:
        return None
    through = own.read[name]
    rest = own.rest(name)  # ‖W_V W_O · M‖ by factors of d_head × d_head
    if rest is None:
        return None
    rest_factor = factor(rest)
    scale = norms(factor(through) @ rest_factor.mT)
    found: list[list[Composition]] = [[] for _ in range(len(through))]
    for layer, other in enumerate(earlier):
        value = factor(other.read["value"])
        written = norms(value @ factor(other.write.mT).mT)
        between = torch.einsum("awm,bmr->abwr", other.write, through)
        product = value[:, None] @ between @ rest_factor.mT[None]
        scores = product.flatten(2).norm(dim=2) / (written[:, None] * scale)
        for head, of_head in enumerate(scores.T.tolist()):
            found[head] += [Composition(layer, i, score) for i, score in enumerate(of_head)]
    return [
        sorted(of_head, key=lambda c: (-c.score, c.layer, c.head))[:TOP_EARLIER]
        for of_head in found
    ]
