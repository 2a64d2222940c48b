"""Any tensor [batch, pos, d] of a model as a set of units, one for each of its dimensions: the
residual stream, what attention and MLPs add to it, and the queries, keys, values and outputs of
attention heads (flattened to `head · d_head + d`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn

from indexer.captured import Captured
from indexer.errors import NeurariumError
from indexer.models.asked import Asked
from indexer.models.capture import Trunk
from indexer.models.hook_places import READ_BY_PROJECTION, find_place
from indexer.models.layout import Layout
from indexer.models.names import (
    HOOK_ATTN_OUT,
    HOOK_EMBED,
    HOOK_RESID_PRE,
    HOOK_Z,
    TENSOR_HOOK_POINTS,
    tensor_set_name,
)
from indexer.models.reading import Inputs, find_readers
from indexer.models.units import Place, Reader, Unknown, Writes, never_large
from indexer.models.written import ADDS_NOTHING, way_to_stream
from indexer.store.units import Units

_OF_HEADS = (*READ_BY_PROJECTION, HOOK_Z)
_NO_READS = {
    HOOK_Z: "It is a mean of the values of other positions, weighted by attention: no token's "
    "embedding alone says what it reads.",
}
_READS_NOTHING = (
    "It is a dimension of the residual stream, or of what is added to it: it reads no direction "
    "of its own."
)
_NO_LINKS = (
    "A dimension writes itself in every layer, so weights say nothing about which units go "
    "together."
)


def takes(asked: Asked) -> bool:
    """Whether it is the dimensions of a tensor that are asked for."""
    return asked.hook_point in TENSOR_HOOK_POINTS


def no_problem(_layout: Layout) -> None:
    """Every model has a residual stream; `choose_tensor` refuses what one lacks."""
    return


def choose_tensor(layout: Layout, asked: Asked) -> Asked:
    """The hook point, which the model must have. Raises `NeurariumError`."""
    hook_point = str(asked.hook_point)
    known = [name for name in TENSOR_HOOK_POINTS if layout.target_of(name) is not None]
    if hook_point not in known:
        raise NeurariumError(
            f"{layout.label!r} ({layout.architecture}) has no hook point {hook_point!r} that can "
            f"be captured: it has {', '.join(known)} (--hook-point)."
        )
    return Asked(hook_point)


@dataclass(frozen=True)
class TensorDimensions:
    """The dimensions of a tensor at one hook point: a `UnitSet`."""

    layout: Layout
    root: nn.Module
    trunk: Trunk
    hook_point: str
    places: tuple[Place, ...]
    widths: tuple[int, ...] = ()

    noun: ClassVar[str] = "dimension"
    sparse: ClassVar[bool] = False
    has_pairs: ClassVar[bool] = False
    own_pass: ClassVar[bool] = False
    signed: ClassVar[bool] = True
    has_parts: ClassVar[bool] = False
    is_default: ClassVar[bool] = True
    remark: ClassVar[str] = ""
    identity: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """From the hook point: `resid_post` of `hook_resid_post`."""
        return tensor_set_name(self.hook_point)

    @property
    def described(self) -> Units:
        """What follows from the hook point."""
        heads = self.hook_point in _OF_HEADS
        before_block = self.hook_point in (HOOK_RESID_PRE, HOOK_EMBED)
        no_reads = "" if self.hook_point in READ_BY_PROJECTION else _READS_NOTHING
        return Units(
            noun=self.noun,
            signed=True,
            two_sided=True,
            dead_by_magnitude=True,
            group=self.layout.d_head if heads else None,
            blocks=self.layout.n_layers - (0 if before_block else 1),
            no_writes=ADDS_NOTHING.get(self.hook_point, ""),
            no_reads=_NO_READS.get(self.hook_point, no_reads),
            no_links="" if heads else _NO_LINKS,
        )

    @property
    def asked(self) -> Asked:
        """The hook point is all that finds them."""
        return Asked(self.hook_point)

    def captured(
        self,
        layer: int,
        values: Float[Tensor, "batch pos n"],
        parts: tuple[Float[Tensor, "batch pos _"], ...],
    ) -> Captured:
        """The values themselves."""
        return Captured(values)

    def between(self, layer: int, values: Float[Tensor, "batch pos n"], share: float) -> None:
        """None: activations are not compared with a threshold."""

    def set_unit(
        self, layer: int, values: Float[Tensor, "*batch n"], unit: int, value: float
    ) -> None:
        """A dimension has a number of its own."""
        values[..., unit] = value

    def target(self, layer: int) -> None:
        """None: units are set where they are read."""

    @torch.inference_mode()
    def writes(self, layer: int) -> Writes | Unknown:
        """A dimension of the residual stream writes itself; one of `attn.hook_z` its row of W_O,
        through the norm after the attention, if there is one (Gemma 2 and 3, OLMo 2)."""
        if reason := self.described.no_writes:
            return Unknown(reason)
        place, width = self.places[layer], self.widths[layer]
        way = way_to_stream(self.layout, self.root, layer, self.hook_point, width)
        if isinstance(way, Unknown):
            return way
        vectors = way.matrix
        if vectors is None:
            vectors = torch.eye(width, device=self.trunk.device)
        return Writes(vectors, place, None, way.outer_norm, way.lands)

    def encoders(self, layer: int) -> None:
        """None: units are compared by what they write."""

    def thresholds(self, layer: int) -> None:
        """None: no sum has to exceed a threshold."""

    def names(self, layer: int) -> tuple[str, ...]:
        """None: units have numbers only."""
        return ()

    def readers(self, token_ids: Int[Tensor, "1 pos"]) -> tuple[Reader | Unknown, ...]:
        """Queries, keys and values read with W_Q, W_K and W_V through the norm before them."""
        if reason := self.described.no_reads:
            return (Unknown(reason),) * len(self.places)
        layers = [
            Inputs(
                block=self.layout.component(self.root, f"blocks.{layer}"),
                linear={"in": place},
                last=place.module,
            )
            for layer, place in enumerate(self.places)
        ]

        def run() -> None:
            self.trunk.capture(self, token_ids, torch.ones_like(token_ids), lambda *_: None)

        return find_readers(layers, self.layout.d_model, run)

    def dead(
        self, maximum: Float32[np.ndarray, " n"], minimum: Float32[np.ndarray, " n"]
    ) -> Bool[np.ndarray, " n"]:
        """Dimensions that are never large in magnitude: either sign counts."""
        return never_large(maximum, minimum)


def find_tensor(trunk: Trunk, layout: Layout, root: nn.Module, asked: Asked) -> TensorDimensions:
    """The dimensions of a hook point as units, counted in a pass over two tokens.

    Raises `NeurariumError` where the tensor cannot be found, or a layer does not run once.
    """
    hook_point = str(asked.hook_point)
    layers = range(1 if hook_point == HOOK_EMBED else layout.n_layers)
    places = tuple(_place(layout, root, layer, hook_point) for layer in layers)
    units = TensorDimensions(layout, root, trunk, hook_point, places)
    widths = trunk.widths(units)
    return TensorDimensions(layout, root, trunk, hook_point, places, widths)


def _place(layout: Layout, root: nn.Module, layer: int, hook_point: str) -> Place:
    """Where a hook point is in one layer. Raises `NeurariumError`."""
    place = find_place(layout, root, layer, hook_point)
    if place is not None:
        return place
    raise NeurariumError(
        f"{hook_point!r} cannot be found in layer {layer} of {layout.label!r} "
        f"({layout.architecture}): choose another --hook-point, such as {HOOK_ATTN_OUT}."
    )
