"""What a model hands over of one layer in one forward pass. Apart from the model, since the scan
reads it without knowing any model library. Pure but for torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Captured:
    """One layer's neurons on one batch, all on the model's device and in its dtype."""

    activations: Float[Tensor, "batch pos n"]
    gate: Float[Tensor, "batch pos n"] | None = None
    """A gated neuron's gate before its nonlinearity; None where the activation is not one, or
    where the parts it is a product of are not known."""
    linear: Float[Tensor, "batch pos n"] | None = None
    """A gated neuron's linear part: activation = nonlinearity(gate) · linear. None as `gate`."""


OnLayer = Callable[[int, Captured], None]
"""Called once a layer, in order, with the layer's index. What is given is the model's own: read it
until the pass is over, and change nothing in it."""
