"""What a model hands over of one layer in one forward pass: the scan reads it without knowing any
model library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Captured:
    """One layer's units on one batch, all on the model's device and in its dtype."""

    activations: Float[Tensor, "batch pos n"]
    gate: Float[Tensor, "batch pos n"] | None = None
    """The gate before its nonlinearity; None where the activation is not a product with a gate, or
    where its parts are not known."""
    linear: Float[Tensor, "batch pos n"] | None = None
    """The linear part: activation = nonlinearity(gate) · linear. None as `gate`."""

    @property
    def parts(self) -> tuple[Float[Tensor, "batch pos n"], ...]:
        """Gate and linear part, or nothing."""
        return () if self.gate is None or self.linear is None else (self.gate, self.linear)


OnLayer = Callable[[int, Captured], None]
"""Called once per layer, in order, with the layer's index. The tensors are the model's own: read
them before the forward pass ends, and do not change them."""


@dataclass(frozen=True)
class CapturedHeads:
    """One layer's attention heads on one batch, on the model's device and in its dtype.

    Rows of padding mean nothing. A row of `pattern` sums to 1, or to less in models with a sink
    (gpt-oss).
    """

    pattern: Float[Tensor, "batch head query key"]
    value_norms: Float[Tensor, "batch head key"]
    """‖v_k W_O‖ in float32: how long the vector is that a head moves from each key at attention
    1, before any norm after the attention."""
    outputs: Float[Tensor, "batch pos head d_head"]
    """Attention-weighted sums of values: the input of the output projection."""
    norm_scale: Float[Tensor, "batch pos"] | None = None
    """What the norm after the attention divides by, in float32; None where there is none."""


OnHeads = Callable[[int, CapturedHeads], None]
"""Called once per layer, in order, as `OnLayer` is."""
