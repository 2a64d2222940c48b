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
