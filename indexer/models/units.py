"""What a run indexes: a set of units, such as a model's MLP neurons at one hook point.

The scan, the store, verification and live text know units only through `UnitSet`. A new kind of
unit is a class with these members, in a file of its own beside this one, and a line in `kinds`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn

from indexer.captured import Captured
from indexer.models.asked import Asked
from indexer.store.units import Units

READ_PARTS = ("in", "gate")
"""The matrices a unit may read with, in the order of their numbers in the store. Units with one
matrix read with `in`."""
SMALLEST_MAGNITUDE = 1e-6
"""A unit whose values can have either sign is dead if no magnitude is above this."""


@dataclass(frozen=True)
class Place:
    """A module whose input or output holds one layer's units."""

    module: nn.Module
    side: Literal["input", "output"]
    half: int | None = None
    """0 or 1 where only that half of the last axis is meant (fused gate and up projections)."""
    parts: tuple[Place, ...] = ()
    """Module outputs from earlier in the same layer that `UnitSet.captured` needs too."""

    beside: nn.Module | None = None
    """A module whose output has the tensor added to it once more, beside what `module` makes of it:
    the block, where the residual stream is read in the middle of it."""

    columns: Int[Tensor, " n"] | None = None
    """Which numbers of the last axis are meant, in order; None: all of them, or a `half`."""
    factor: float = 1.0
    """What the model multiplies the module's numbers by on their way (Granite), so that they are
    what TransformerLens means."""

    def own(self, values: Tensor) -> Tensor:
        """The units' numbers [..., n] of the module's input or output [..., d]. A view, except with
        `columns` or a `factor`, which copy."""
        if self.columns is not None:
            values = values[..., self.columns]
        elif self.half is not None:
            values = values.chunk(2, dim=-1)[self.half]
        return values if self.factor == 1 else values * self.factor

    def put(self, values: Tensor, own: Tensor) -> None:
        """Write `own`, which the method `own` returned and was changed since, back to `values`."""
        if self.columns is not None:
            values[..., self.columns] = own
        elif self.factor != 1:
            values.copy_(own / self.factor)


def first_of(output: object) -> Tensor:
    """A module's output; of a tuple or list, its first tensor."""
    first = output[0] if isinstance(output, tuple | list) else output
    assert isinstance(first, Tensor)
    return first


@dataclass(frozen=True)
class Unknown:
    """Why something isn't known of a set of units."""

    reason: str
    """A full sentence."""


@dataclass(frozen=True)
class Target:
    """Where a layer's units are set if that is not where they are read (transcoders)."""

    place: Place
    """Later in the same forward pass than the units' own place."""
    change: Callable[[Float[Tensor, "pos n"], int, float], Float32[Tensor, "pos m"]]
    """From what a whole context has at the units' own place, a unit, and the activation it is set
    to: what has to be added at `place`."""


@dataclass(frozen=True)
class Writes:
    """What the units of one layer add to the residual stream."""

    vectors: Float[Tensor, "units d_model"]
    """Per unit of activation, in float32, up to the scales of `norms`."""
    source: Place | None
    """Where the numbers [..., units] are that the vectors are multiplied by; None where they are
    the units' own activations."""
    inner_norm: nn.Module | None
    """A norm over the units before the vectors (SoLU); its input is what `source` takes."""
    outer_norm: nn.Module | None
    """A norm over d_model after the vectors (Gemma 2 and 3, OLMo 2)."""
    lands: str = "hook_resid_post"
    """The hook point of the layer at which the vectors are first in the residual stream."""
    scale_at: Callable[[Float[Tensor, "*batch n"]], Float[Tensor, "*batch"]] | None = None
    """From the tensor at the units' own place, what the vectors are multiplied by there beside the
    activation: dictionaries that normalise what they read. None: nothing."""


@dataclass(frozen=True)
class Reader:
    """How the units of one layer read the residual stream."""

    norm: nn.Module | None
    """The model's own norm before the matrices, in float32; None if there is none."""
    gain: Float[Tensor, " d_model"]
    """The norm's elementwise weight."""
    centred: bool
    """Whether the norm subtracts the mean (LayerNorm)."""
    matrices: dict[str, Float[Tensor, "d_model units"]]
    """By part, in the order of `READ_PARTS`; views of the model's weights where those are stored as
    numbers."""

    def normed(self, stream: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        """Residual stream vectors after the norm, each normalised by itself."""
        if self.norm is None:
            return stream
        out: Tensor = self.norm(stream[:, None])
        return out[:, 0]

    def folded(self, vectors: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        """Residual stream vectors after the norm, without the division by its scale."""
        if self.centred:
            vectors = vectors - vectors.mean(dim=1, keepdim=True)
        return vectors * self.gain

    def directions(self, part: str) -> Float[Tensor, "units d_model"]:
        """The residual stream direction each unit reads: its column of the matrix times the norm's
        weight, minus its mean if the norm centres (the norm folded into the matrix)."""
        read = self.matrices[part].T.float() * self.gain
        return read - read.mean(dim=1, keepdim=True) if self.centred else read


class UnitSet(Protocol):
    """All units of one kind at one hook point of a loaded model."""

    @property
    def name(self) -> str:
        """A word for addresses, such as `neurons`."""
        ...

    @property
    def noun(self) -> str:
        """What one unit is called, such as `neuron`."""
        ...

    @property
    def described(self) -> Units:
        """What a run stores of the set, so that pages never guess it."""
        ...

    @property
    def identity(self) -> str:
        """A hash of everything beside the model that activations depend on; empty if nothing is."""
        ...

    @property
    def asked(self) -> Asked:
        """What finds the same units in the same model again."""
        ...

    @property
    def hook_point(self) -> str:
        """TransformerLens's name of the place captured, such as `mlp.hook_post`."""
        ...

    @property
    def is_default(self) -> bool:
        """Whether this is what the model is indexed at unless the user chooses."""
        ...

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each layer."""
        ...

    @property
    def places(self) -> tuple[Place | None, ...]:
        """Where each layer is captured; None for a layer without units."""
        ...

    @property
    def has_parts(self) -> bool:
        """Whether a gate and a linear part are captured beside each activation."""
        ...

    @property
    def signed(self) -> bool:
        """Whether values below 0 count as much as values above it."""
        ...

    @property
    def sparse(self) -> bool:
        """Whether most activations are exactly 0."""
        ...

    @property
    def has_pairs(self) -> bool:
        """Whether pairs of positions are ranked too (attention heads)."""
        ...

    @property
    def own_pass(self) -> bool:
        """Whether the units cannot share a forward pass with others of the same model."""
        ...

    @property
    def remark(self) -> str:
        """What a user should know before the scan, a phrase without a full stop; usually empty."""
        ...

    def captured(
        self,
        layer: int,
        values: Float[Tensor, "batch pos n"],
        parts: tuple[Float[Tensor, "batch pos _"], ...],
    ) -> Captured:
        """The layer's activations [batch, pos, units] from the tensors at its place.

        Runs inside the forward pass of every batch: it must not wait for the device, and must not
        copy what it can pass on.
        """
        ...

    def between(
        self, layer: int, values: Float[Tensor, "batch pos n"], share: float
    ) -> tuple[Float[Tensor, "batch pos units"], Float[Tensor, "batch pos units"]] | None:
        """The lowest and highest activations that rounding allows for the tensor at the layer's
        place, where units sum over it and compare the sum with a threshold: sums may be off by
        `share` of the largest sum at their position. None: activations are the tensor itself."""
        ...

    def set_unit(
        self, layer: int, values: Float[Tensor, "*batch n"], unit: int, value: float
    ) -> None:
        """Change the tensor at the layer's place, in memory, so that a unit has this activation."""
        ...

    def target(self, layer: int) -> Target | Unknown | None:
        """Where the layer's units are set in place of their own place; None: there, by `set_unit`;
        unknown: they cannot be set."""
        ...

    def writes(self, layer: int) -> Writes | Unknown:
        """What the layer's units add to the residual stream. Computed when asked."""
        ...

    def encoders(self, layer: int) -> Float[Tensor, "units d_in"] | None:
        """What a layer's units read, to be compared with each other; None where what they write
        says enough."""
        ...

    def thresholds(self, layer: int) -> Float[Tensor, " units"] | None:
        """What a unit's sum has to exceed so that it fires; None where that is 0, or nothing."""
        ...

    def names(self, layer: int) -> tuple[str, ...]:
        """A name for each of a layer's units, or none."""
        ...

    def readers(self, token_ids: Int[Tensor, "1 pos"]) -> tuple[Reader | Unknown, ...]:
        """How each layer reads the residual stream; may run the model over these few tokens."""
        ...

    def dead(
        self, maximum: Float32[np.ndarray, " n"], minimum: Float32[np.ndarray, " n"]
    ) -> Bool[np.ndarray, " n"]:
        """Which units never fire, from their largest and smallest activations in a whole run."""
        ...


def present_place(units: UnitSet, layer: int) -> Place:
    """The place of a layer that has units."""
    place = units.places[layer]
    assert place is not None  # only layers with units are asked for
    return place


def never_positive(
    maximum: Float32[np.ndarray, " n"], _minimum: Float32[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Dead units where only values above 0 count: the maximum is 0 or below."""
    dead: Bool[np.ndarray, " n"] = maximum <= 0
    return dead


def never_large(
    maximum: Float32[np.ndarray, " n"], minimum: Float32[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Dead units where either sign counts: no magnitude is above 1e-6."""
    dead: Bool[np.ndarray, " n"]
    dead = np.maximum(np.abs(maximum), np.abs(minimum)) <= SMALLEST_MAGNITUDE
    return dead
