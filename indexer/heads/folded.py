"""The matrices of a layer's heads with the norms around them folded in, and the sizes of products
of such matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from indexer.heads.effects import heads_of
from indexer.models.head_weights import HeadWeights
from indexer.models.loaded import LoadedModel
from indexer.models.norms import ScaledNorm, scaled_norm


@dataclass(frozen=True, eq=False)
class FoldedLayer:
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

    def rest(self, name: str) -> Float[Tensor, "head d_model d_head"] | None:
        """What follows `read[name]` in the matrix that a head composes by: of M = W_Q W_Kᵀ the key
        matrix for `query`, the query matrix for `key`; of W_V W_O the transpose of W_O. None where
        that is not known."""
        if name == "value":
            return self.write.mT
        return self.read.get("key" if name == "query" else "query")


def has_query_norms(model: LoadedModel) -> bool:
    """Whether the model normalises its queries and keys: its attention has norms, which go by many
    names (Qwen 3: `q_norm`, Phi: `q_layernorm`)."""
    return any(
        "norm" in f"{name} {type(module).__name__}".lower() and not isinstance(module, nn.Identity)
        for attention in heads_of(model).attentions
        for name, module in attention.named_modules()
        if name
    )


def folded(model: LoadedModel, layer: int) -> FoldedLayer:
    """One layer's matrices; without queries and keys where the model normalises them."""
    heads = heads_of(model)
    weights = heads.weights(layer)
    module = model.layout.component(model.root, f"blocks.{layer}.ln1")
    norm = None if module is None else scaled_norm(module, model.layout.d_model, model.device)
    named: dict[str, Any] = {"value": weights.value}
    if not has_query_norms(model):
        named |= {"query": weights.query, "key": weights.key}
    read = {
        name: matrix if norm is None else norm.back(matrix.mT).mT
        for name, matrix in named.items()
        if matrix is not None
    }
    after = heads.norms[layer]
    write = weights.out if after is None else after.linear(weights.out)
    return FoldedLayer(weights, norm, read, write)


def factor(matrix: Float[Tensor, "head n d_head"]) -> Float[Tensor, "head r d_head"]:
    """R of A = Q R: ‖A X‖ = ‖R X‖ for any X."""
    triangle: Tensor = torch.linalg.qr(matrix.float().cpu())[1]
    return triangle.to(matrix.device)


def norms(matrices: Float[Tensor, "head a b"]) -> Float[Tensor, " head"]:
    """Frobenius norms."""
    found: Tensor = matrices.flatten(1).norm(dim=1)
    return found
