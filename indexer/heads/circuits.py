"""What follows from the weights of heads alone: the OV circuit (what a head moves), the QK circuit
(what it looks for) and composition with earlier heads (Elhage et al. 2021).

Norms are folded into the matrices that read and write. Where a token's embedding is read, it is
divided by the norm's scale of that embedding by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from indexer.heads.effects import LogitPath, heads_of, logit_path
from indexer.models.head_weights import HeadWeights
from indexer.models.loaded import LoadedModel
from indexer.models.norms import ScaledNorm, scaled_norm
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
    """An earlier head that this one may read, and how strongly: ‖product‖ ÷ (‖A‖ · ‖B‖) of the two
    heads' matrices, Frobenius norms."""

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
    """Among frequent tokens: the query token and the key token with the largest query · key."""
    queries: list[Composition] | None
    keys: list[Composition] | None
    values: list[Composition]


@dataclass(frozen=True, eq=False)
class _Layer:
    """One layer's matrices with the norms folded in."""

    weights: HeadWeights
    norm: ScaledNorm | None
    """Before the attention."""
    read: dict[str, Float[Tensor, "head d_model d_head"]]
    """`query`, `key`, `value`, as they read the residual stream."""
    write: Float[Tensor, "head d_head d_model"]
    """W_O as it reaches the residual stream, up to the scale of a norm after the attention."""

    def tokens(self, stream: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        """Embeddings divided by the norm's scale, ready for `read`."""
        return stream if self.norm is None else stream / self.norm.scale(stream)[:, None]


def left_out(model: LoadedModel) -> list[str]:
    """What the circuits of this model do not take into account, sentences."""
    layout, heads = model.layout, heads_of(model)
    said = []
    if layout.component(model.root, "pos_embed") is not None:
        said.append("Positional embeddings are left out: circuits are those of tokens alone.")
    elif layout.architecture.lower().startswith(("bloom", "mpt", "falcon")):
        said.append("ALiBi is left out of the QK circuit: it lowers scores with the distance.")
    else:
        said.append(
            "Rotary positions are left out of the QK circuit: scores are those at distance 0."
        )
    said.append("Queries · keys are not divided by the model's own scale.")
    if _has_query_norms(model):
        said.append("The QK circuit is left out: this model normalises queries and keys.")
    if any(norm is not None for norm in heads.norms):
        said.append("What a head writes is taken up to the scale of the norm after the attention.")
    if logit_path(model) is None:
        said.append(
            "Direct effects and the OV circuit are left out: this model normalises after each "
            "addition to the residual stream."
        )
    return said


@torch.inference_mode()
def circuits(model: LoadedModel, frequent: Int[Tensor, " n"]) -> Iterator[list[Circuits]]:
    """The circuits of all heads, layer by layer. `frequent` are ids of frequent tokens."""
    heads, path = heads_of(model), logit_path(model)
    layers = [_folded(model, layer) for layer in range(model.layout.n_layers)]
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
        found = []
        for head in range(heads.widths[layer]):
            copying, promoted, self_share = None, None, None
            if gram is not None and stream is not None and unembed is not None:
                copying = _copying(own, head, gram)
                tokens = own.tokens(stream) @ own.read["value"][head] @ own.write[head]
                table = tokens @ unembed.T * heads.residual_multiplier
                promoted, self_share = _top_pairs(table, frequent), _self_share(table)
            found.append(
                Circuits(
                    copying=copying,
                    promoted=promoted,
                    self_share=self_share,
                    matched=_matched(own, head, stream, frequent),
                    queries=None if queries is None else queries[head],
                    keys=None if keys is None else keys[head],
                    values=values[head],
                )
            )
        yield found


def _has_query_norms(model: LoadedModel) -> bool:
    return model.layout.component(model.root, "blocks.0.attn.q_norm") is not None


def _folded(model: LoadedModel, layer: int) -> _Layer:
    heads = heads_of(model)
    weights = heads.weights(layer)
    module = model.layout.component(model.root, f"blocks.{layer}.ln1")
    norm = None if module is None else scaled_norm(module, model.layout.d_model, model.device)
    named: dict[str, Any] = {"value": weights.value}
    if not _has_query_norms(model):
        named |= {"query": weights.query, "key": weights.key}
    read = {
        name: matrix if norm is None else norm.back(matrix.mT).mT
        for name, matrix in named.items()
        if matrix is not None
    }
    after = heads.norms[layer]
    write = weights.out if after is None else after.linear(weights.out)
    return _Layer(weights, norm, read, write)


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


def _copying(own: _Layer, head: int, gram: Float[Tensor, "d_model d_model"]) -> float:
    """The copying score: the eigenvalues of the d_vocab × d_vocab circuit that are not 0 are those
    of a d_head × d_head matrix."""
    small = own.write[head] @ gram @ own.read["value"][head]
    eigenvalues = torch.linalg.eigvals(small.double().cpu())
    total = float(eigenvalues.abs().sum())
    return float(eigenvalues.real.sum()) / total if total else 0.0


def _matched(
    own: _Layer,
    head: int,
    stream: Float[Tensor, "n d_model"] | None,
    frequent: Int[Tensor, " n"],
) -> list[Pair] | None:
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
    return _top_pairs(sides[0] @ sides[1].T, frequent)


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


def _composition(own: _Layer, earlier: list[_Layer], name: str) -> list[list[Composition]] | None:
    """For each head the earlier heads it composes with most, by its queries, keys or values."""
    if name not in own.read:
        return None
    through = own.read[name]
    # ‖W_V W_O · M‖ with M = W_Q W_Kᵀ or W_V W_O, by factors of d_head × d_head.
    if name == "value":
        rest: Tensor | None = own.write.mT
    else:
        rest = own.read.get("key" if name == "query" else "query")
    if rest is None:
        return None
    rest_factor = _factor(rest)
    scale = _norms(_factor(through) @ rest_factor.mT)
    found: list[list[Composition]] = [[] for _ in range(len(through))]
    for layer, other in enumerate(earlier):
        value = _factor(other.read["value"])
        written = _norms(value @ _factor(other.write.mT).mT)
        between = torch.einsum("awm,bmr->abwr", other.write, through)
        product = value[:, None] @ between @ rest_factor.mT[None]
        scores = product.flatten(2).norm(dim=2) / (written[:, None] * scale)
        for head, of_head in enumerate(scores.T.tolist()):
            found[head] += [Composition(layer, i, score) for i, score in enumerate(of_head)]
    return [
        sorted(of_head, key=lambda c: (-c.score, c.layer, c.head))[:TOP_EARLIER]
        for of_head in found
    ]


def _factor(matrix: Float[Tensor, "head n d_head"]) -> Float[Tensor, "head r d_head"]:
    """R of A = Q R: ‖A X‖ = ‖R X‖ for any X."""
    triangle: Tensor = torch.linalg.qr(matrix.float().cpu())[1]
    return triangle.to(matrix.device)


def _norms(matrices: Float[Tensor, "head a b"]) -> Float[Tensor, " head"]:
    norms: Tensor = matrices.flatten(1).norm(dim=1)
    return norms
