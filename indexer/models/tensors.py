"""Any tensor [batch, pos, d] of a model as a set of units, one for each of its dimensions: the
residual stream, what attention and MLPs add to it, and the queries, keys, values and outputs of
attention heads (flattened to `head · d_head + d`).

Where a hook point is in the plain model is asked of TransformerLens's adapter, which has the same
aliases as its bridge.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from indexer.captured import Captured
from indexer.errors import NeurariumError
from indexer.models.asked import Asked
from indexer.models.capture import Trunk
from indexer.models.hook_places import beside, lands_at
from indexer.models.layout import Layout
from indexer.models.matrices import rows_by_input
from indexer.models.modules import through_norm, unwrap
from indexer.models.names import (
    HOOK_ATTN_OUT,
    HOOK_EMBED,
    HOOK_K,
    HOOK_Q,
    HOOK_RESID_PRE,
    HOOK_V,
    HOOK_Z,
    TENSOR_HOOK_POINTS,
    tensor_set_name,
)
from indexer.models.reading import Inputs, find_readers
from indexer.models.units import Place, Reader, Unknown, Writes, never_large
from indexer.store.units import Units

_OF_HEADS = (HOOK_Q, HOOK_K, HOOK_V, HOOK_Z)
_READ_BY_PROJECTION = (HOOK_Q, HOOK_K, HOOK_V)
_NO_WRITES = {
    HOOK_Q: "A query adds nothing itself: it decides with the keys where its head attends.",
    HOOK_K: "A key adds nothing itself: it decides with the queries where its head attends.",
    HOOK_V: "A value is added at other positions, as much as heads attend to it there: it has no "
    "logit effects of its own.",
}
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
        no_reads = "" if self.hook_point in _READ_BY_PROJECTION else _READS_NOTHING
        return Units(
            noun=self.noun,
            signed=True,
            two_sided=True,
            dead_by_magnitude=True,
            group=self.layout.d_head if heads else None,
            blocks=self.layout.n_layers - (0 if before_block else 1),
            no_writes=_NO_WRITES.get(self.hook_point, ""),
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
        """Nothing is compared with a threshold."""

    def set_unit(
        self, layer: int, values: Float[Tensor, "*batch n"], unit: int, value: float
    ) -> None:
        """A dimension has a number of its own."""
        values[..., unit] = value

    def target(self, layer: int) -> None:
        """They are set where they are read."""

    @torch.inference_mode()
    def writes(self, layer: int) -> Writes | Unknown:
        """A dimension of the residual stream writes itself; one of `attn.hook_z` its row of W_O,
        through the norm after the attention, if there is one (Gemma 2 and 3, OLMo 2)."""
        if reason := self.described.no_writes:
            return Unknown(reason)
        place = self.places[layer]
        if self.hook_point != HOOK_Z:
            width = self.widths[layer]
            identity = torch.eye(width, device=self.trunk.device)
            return Writes(identity, place, None, None, lands_at(self.hook_point))
        vectors = rows_by_input(unwrap(place.module), self.widths[layer]).float()
        outer = self.layout.attention_norm(self.root, layer)
        if outer is not None:
            vectors = through_norm(vectors, unwrap(outer))
        scale = getattr(getattr(self.root, "config", None), "residual_multiplier", None) or 1.0
        return Writes(vectors * float(scale), place, None, outer, lands_at(self.hook_point))

    def encoders(self, layer: int) -> None:
        """Not compared by themselves."""

    def thresholds(self, layer: int) -> None:
        """Nothing has to be exceeded."""

    def names(self, layer: int) -> tuple[str, ...]:
        """Only numbers."""
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
        """Either sign counts."""
        return never_large(maximum, minimum)


def find_tensor(trunk: Trunk, layout: Layout, root: nn.Module, asked: Asked) -> TensorDimensions:
    """A tensor's dimensions, each layer's counted on two tokens.

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
    target = layout.target_of(hook_point)
    assert target is not None  # `choose_tensor` refused it
    path, side = target
    module = layout.component(root, path.format(layer))
    if module is not None:
        return Place(module, side, beside=beside(layout, root, layer, hook_point))
    if hook_point in _READ_BY_PROJECTION:
        fused = _fused(layout, root, layer, _READ_BY_PROJECTION.index(hook_point))
        if fused is not None:
            return fused
    raise NeurariumError(
        f"{hook_point!r} cannot be found in layer {layer} of {layout.label!r} "
        f"({layout.architecture}): choose another --hook-point, such as {HOOK_ATTN_OUT}."
    )


def _fused(layout: Layout, root: nn.Module, layer: int, which: int) -> Place | None:
    """Queries (0), keys (1) or values (2) of a module that computes all three.

    TransformerLens knows how each architecture arranges the three: it splits a copy of the module
    whose weights are the numbers of its outputs, and so says which output is which.
    """
    split = layout.qkv_splitter()
    attention = layout.component(root, f"blocks.{layer}.attn")
    fused = layout.component(root, f"blocks.{layer}.attn.qkv")
    if split is None or attention is None or fused is None:
        return None
    own = unwrap(attention)
    numbered = copy.deepcopy(unwrap(fused)).float().cpu()
    shell = copy.copy(own)
    shell._modules = dict(own._modules)
    names = [name for name, module in own._modules.items() if module is unwrap(fused)]
    if len(names) != 1:
        return None
    shell._modules[names[0]] = numbered
    weight = numbered.weight
    assert isinstance(weight, Tensor)
    with torch.no_grad():
        if isinstance(numbered, Conv1D):
            weight.copy_(torch.arange(weight.shape[1]).expand_as(weight))
        else:
            weight.copy_(torch.arange(weight.shape[0])[:, None].expand_as(weight))
        part = split(shell)[which]
        columns = rows_by_input(part, layout.d_model)[0].round().long()
    return Place(unwrap(fused), "output", columns=columns.to(next(own.parameters()).device))
