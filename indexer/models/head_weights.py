"""The matrices of a layer's heads, by head, in float32."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from indexer.models.matrices import rows_by_input
from indexer.models.modules import unwrap
from indexer.models.qkv import SPLITS, Projection, repeated


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """W_Q, W_K, W_V [head, d_model, d_head] and W_O [head, d_head, d_model]; grouped keys and
    values are repeated for the heads that share them."""

    query: Float[Tensor, "head d_model d_head"] | None
    """None where the module that computes queries is not known."""
    key: Float[Tensor, "head d_model d_head"] | None
    value: Float[Tensor, "head d_model d_head"]
    out: Float[Tensor, "head d_head d_model"]
    query_bias: Float[Tensor, "head d_head"] | None
    key_bias: Float[Tensor, "head d_head"] | None
    out_bias: Float[Tensor, " d_model"] | None
    lengths: Float[Tensor, "head d_head r"]
    """‖z W_O‖ = ‖z · lengths‖, by the QR decomposition of W_O: a d_model-th part of the work."""

    @property
    def d_head(self) -> int:
        """The width of one head."""
        return self.out.shape[1]

    def value_norms(
        self, values: Float[Tensor, "batch key group d_head"]
    ) -> Float[Tensor, "batch head key"]:
        """‖v W_O‖ of every key for every head, in float32."""
        heads = self.out.shape[0]
        values = repeated(values.float(), heads)
        norms: Tensor = torch.einsum("bkhd,hdr->bhkr", values, self.lengths).norm(dim=-1)
        return norms

    def output_norms(
        self, outputs: Float[Tensor, "*batch head d_head"]
    ) -> Float[Tensor, "*batch head"]:
        """‖z W_O‖ of heads' outputs, in float32."""
        norms: Tensor = torch.einsum("...hd,hdr->...hr", outputs.float(), self.lengths).norm(dim=-1)
        return norms


@torch.inference_mode()
def head_weights(projection: Projection, out: nn.Module, heads: int, d_model: int) -> HeadWeights:
    """One layer's matrices and biases in float32, by head. Raises `NeurariumError` for quantised
    weights."""
    weight = getattr(out, "weight", None)
    inputs = weight.numel() // d_model if isinstance(weight, Tensor) else 0
    w_out = rows_by_input(out, inputs).float().reshape(heads, -1, d_model)
    d_head = w_out.shape[1]

    def split(module: nn.Module | None, part: int) -> tuple[Tensor | None, Tensor | None]:
        """A part's matrix [head, d_model, d_head] and bias [head, d_head], whether its module
        computes this part alone or fused with others; None without a module or a bias."""
        if module is None:
            return None, None
        own = unwrap(module)
        rows = rows_by_input(own, d_model).float()
        bias = getattr(own, "bias", None)
        cut = SPLITS[projection.split]
        # A module of its own has one part, which `alone` calls values.
        number = 2 if projection.split == "alone" else part
        matrix = cut(rows, heads, d_head)[number]
        added = None if bias is None else cut(bias.detach().float(), heads, d_head)[number]
        assert matrix is not None
        return (
            repeated(matrix, heads).permute(1, 0, 2),
            None if added is None else repeated(added, heads),
        )

    query, query_bias = split(projection.query_module, 0)
    key, key_bias = split(projection.key_module, 1)
    value, _ = split(projection.value_module, 2)
    assert value is not None  # the values' module is always known
    bias = getattr(out, "bias", None)
    return HeadWeights(
        query=query,
        key=key,
        value=value,
        out=w_out,
        query_bias=query_bias,
        key_bias=key_bias,
        out_bias=None if bias is None else bias.detach().float(),
        lengths=torch.linalg.qr(w_out.mT.cpu())[1].mT.contiguous().to(w_out.device),
    )
