"""MLP neurons as a set of units: where TransformerLens's hook points are in a model, and what the
neurons captured there write, read and mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn

from indexer.captured import Captured
from indexer.errors import NeurariumError
from indexer.models.asked import Asked
from indexer.models.capture import Trunk
from indexer.models.hook_places import find_place, mlp_points_of
from indexer.models.layout import Layout
from indexer.models.matrices import outputs_of
from indexer.models.modules import unwrap
from indexer.models.names import (
    HOOK_BEFORE_LN,
    HOOK_POST,
    HOOK_PRE,
    HOOK_PRE_LINEAR,
    MLP_HOOK_POINTS,
)
from indexer.models.reading import Inputs, find_readers
from indexer.models.units import (
    READ_PARTS,
    Place,
    Reader,
    Unknown,
    Writes,
    never_large,
    never_positive,
)
from indexer.models.written import way_to_stream
from indexer.store.units import Units

_NONLINEARITIES = ("act_fn", "activation_fn", "act", "activation")
"""Attribute names under which MLP modules hold their nonlinearity."""


def takes(asked: Asked) -> bool:
    """Whether MLP neurons are asked for."""
    return asked.hook_point in MLP_HOOK_POINTS


def mlp_problem(layout: Layout) -> str | None:
    """Why a model has no MLP neurons that can be indexed; None if it has."""
    return layout.mlp_problem


def default_hook_point(layout: Layout) -> str:
    """Where a model is captured unless the user chooses."""
    return HOOK_BEFORE_LN if "ln" in layout.mlp_modules else HOOK_POST


def choose_hook_point(layout: Layout, asked: Asked) -> Asked:
    """The hook point asked for, or the default. Raises `NeurariumError` if the model lacks it."""
    chosen = asked.hook_point or default_hook_point(layout)
    known = mlp_points_of(layout)
    if chosen not in known:
        raise NeurariumError(
            f"{layout.label!r} has no hook point {chosen!r}: it has {', '.join(known)} "
            "(--hook-point)."
        )
    return Asked(chosen)


@dataclass(frozen=True)
class MlpNeurons:
    """A model's MLP neurons at one hook point: a `UnitSet`."""

    layout: Layout
    root: nn.Module
    trunk: Trunk
    hook_point: str
    places: tuple[Place, ...]
    widths: tuple[int, ...] = ()
    fused: bool = False
    """Whether a gate and a linear part come out of one matrix that the layout takes for a plain
    one."""

    name: ClassVar[str] = "neurons"
    noun: ClassVar[str] = "neuron"
    sparse: ClassVar[bool] = False
    has_pairs: ClassVar[bool] = False
    own_pass: ClassVar[bool] = False
    identity: ClassVar[str] = ""

    @property
    def described(self) -> Units:
        """Gated neurons have either sign, and are dead by their magnitude."""
        return Units(
            noun=self.noun,
            signed=self.signed,
            gated=self.layout.gated,
            parts=self.has_parts,
            dead_by_magnitude=self.layout.gated,
        )

    @property
    def asked(self) -> Asked:
        """The hook point is all that finds them."""
        return Asked(self.hook_point)

    @property
    def is_default(self) -> bool:
        """Whether this is what the model is indexed at unless the user chooses."""
        return self.hook_point == default_hook_point(self.layout)

    @property
    def has_parts(self) -> bool:
        """Whether gate and linear part are captured with each activation."""
        return all(place is not None and place.parts for place in self.places)

    @property
    def signed(self) -> bool:
        """A linear part has either sign, and so has its product with a gate."""
        return self._is_product or self.hook_point == HOOK_PRE_LINEAR

    @property
    def remark(self) -> str:
        """Names the parts of a product that could not be captured."""
        unknown = self._is_product and not self.has_parts
        return "the values of gates and linear parts unknown" if unknown else ""

    def captured(
        self,
        layer: int,
        values: Float[Tensor, "batch pos n"],
        parts: tuple[Float[Tensor, "batch pos n"], ...],
    ) -> Captured:
        """The values are the activations; the parts are gate and linear part."""
        return Captured(values, *parts) if len(parts) == 2 else Captured(values)

    def between(self, layer: int, values: Float[Tensor, "batch pos n"], share: float) -> None:
        """None: activations are not compared with a threshold."""

    def set_unit(
        self,
        layer: int,
        values: Float[Tensor, "*batch n"],
        unit: int,
        value: float,
    ) -> None:
        """A neuron has a number of its own in the tensor captured."""
        values[..., unit] = value

    def target(self, layer: int) -> None:
        """None: units are set where they are read."""

    @torch.inference_mode()
    def writes(self, layer: int) -> Writes | Unknown:
        """What reaches the residual stream per unit of each neuron's activation, in float32.

        The rows of W_out. For SoLU captured before its LayerNorm, scaled by that LayerNorm's weight
        and centred over the neurons, up to its scale. Then through the norm after the MLP, if the
        block has one (Gemma 2 and 3, OLMo 2), up to its scale, and times the constant that
        multiplies the MLP's output (Granite, Falcon-H1). A neuron captured before its activation
        function (`mlp.hook_pre`, or its linear part) has the vector it has after it: that
        activation is what writes, the value captured only drives it. Unknown where the matrix does
        not belong to the neurons.
        """
        layout, root = self.layout, self.root
        point = HOOK_POST if self.hook_point == HOOK_POST else default_hook_point(layout)
        way = way_to_stream(layout, root, layer, point, self.widths[layer])
        if isinstance(way, Unknown):
            return way
        assert way.matrix is not None  # W_out
        inner = way.inner_norm
        out = layout.output_projection(root, layer) if inner is None else inner
        return Writes(way.matrix, Place(out, "input"), inner, way.outer_norm, way.lands)

    def encoders(self, layer: int) -> None:
        """None: units are compared by what they write."""

    def thresholds(self, layer: int) -> None:
        """None: no sum has to exceed a threshold."""

    def names(self, layer: int) -> tuple[str, ...]:
        """None: units have numbers only."""
        return ()

    def readers(self, token_ids: Int[Tensor, "1 pos"]) -> tuple[Reader | Unknown, ...]:
        """Each layer's norm and W_in, and in gated models W_gate."""
        layout, root = self.layout, self.root
        wanted = READ_PARTS if layout.gated else READ_PARTS[:1]

        def inputs(layer: int) -> Inputs:
            found = {part: layout.input_projection(root, layer, part) for part in wanted}
            linear = {part: place for part, place in found.items() if place is not None}
            norm = layout.mlp_norm(root, layer)
            return Inputs(
                block=layout.component(root, f"blocks.{layer}"),
                linear=linear if len(linear) == len(wanted) else {},
                last=layout.output_projection(root, layer) if norm is None else norm,
            )

        def run() -> None:
            self.trunk.capture(self, token_ids, torch.ones_like(token_ids), lambda *_: None)

        layers = [inputs(layer) for layer in range(layout.n_layers)]
        found = find_readers(layers, layout.d_model, run)
        return tuple(map(_of_these_neurons, found, self.widths))

    def dead(
        self, maximum: Float32[np.ndarray, " n"], minimum: Float32[np.ndarray, " n"]
    ) -> Bool[np.ndarray, " n"]:
        """In gated models the activation may have either sign, in others it counts above 0."""
        gated = self.layout.gated or self.fused
        return (never_large if gated else never_positive)(maximum, minimum)

    @property
    def _is_product(self) -> bool:
        """Whether an activation is a gate after its nonlinearity times a linear part."""
        return (self.layout.gated or self.fused) and self.hook_point == HOOK_POST


def find_neurons(trunk: Trunk, layout: Layout, root: nn.Module, asked: Asked) -> MlpNeurons:
    """A model's neurons at a hook point, each layer's counted on two tokens.

    Gates and linear parts are captured only if act(gate) · linear is the activation in every layer.
    Raises `NeurariumError` where the hook point cannot be found, or layers do not run once each.
    """
    hook_point = str(asked.hook_point)
    places = tuple(_place(layout, root, layer, hook_point) for layer in range(layout.n_layers))
    neurons = MlpNeurons(layout, root, trunk, hook_point, places)
    products: list[bool] = []

    def look(layer: int, captured: Captured) -> None:
        acts = _nonlinearities(layout, root, layer)
        products.append(any(_is_product(captured, act) for act in acts))

    widths = trunk.widths(neurons, look)
    if not all(products):  # parts of some layers alone would mislead
        places = tuple(replace(place, parts=()) for place in places)
    fused = not layout.gated and _is_fused(layout, root)
    if fused and hook_point == HOOK_PRE:
        raise NeurariumError(
            f"{hook_point!r} of {layout.label!r} ({layout.architecture}) holds gates and linear "
            f"parts together: choose {HOOK_POST} (--hook-point)."
        )
    return replace(neurons, places=places, widths=widths, fused=fused)


def _is_fused(layout: Layout, root: nn.Module) -> bool:
    """Whether the first layer's input projection has twice the outputs that its output projection
    takes."""
    read = layout.input_projection(root, 0, "in")
    if read is None or read.half is not None:
        return False
    outputs = outputs_of(unwrap(read.module))
    inputs = getattr(unwrap(layout.output_projection(root, 0)), "in_features", None)
    return outputs is not None and inputs is not None and outputs == 2 * inputs


def _of_these_neurons(reader: Reader | Unknown, width: int) -> Reader | Unknown:
    """The reader, unless its matrices have another number of columns than there are neurons: a
    gate and a linear part in one matrix that is taken for a plain one (ModernBERT's decoder)."""
    if isinstance(reader, Unknown):
        return reader
    columns = {matrix.shape[1] for matrix in reader.matrices.values()}
    if columns == {width}:
        return reader
    return Unknown(
        f"The matrix these units read with has {max(columns)} columns, and there are {width} of "
        "them: how it is divided is not known."
    )


def _place(layout: Layout, root: nn.Module, layer: int, hook_point: str) -> Place:
    """Where a hook point is in one layer. Raises `NeurariumError`."""
    layout.output_projection(root, layer)  # refuses a layer without an MLP
    place = find_place(layout, root, layer, hook_point)
    if place is not None and hook_point == HOOK_POST:
        names = ("gate", "in") if layout.gated else ()
        parts = [layout.input_projection(root, layer, name) for name in names]
        known = tuple(part for part in parts if part is not None)
        return replace(place, parts=known if len(known) == len(names) else ())
    if place is None:
        raise NeurariumError(
            f"{hook_point!r} cannot be found in layer {layer} of {layout.label!r} "
            f"({layout.architecture}): choose {HOOK_POST} (--hook-point)."
        )
    return place


def _is_product(captured: Captured, act: Callable[[Tensor], Tensor]) -> bool:
    """Whether a layer's activations are act(gate) · linear, up to rounding."""
    acts, gate, linear = captured.activations, captured.gate, captured.linear
    if gate is None or linear is None or gate.shape != acts.shape or linear.shape != acts.shape:
        return False
    product, largest = act(gate) * linear, float(acts.abs().max())
    return bool(torch.allclose(product, acts, rtol=0.02, atol=0.01 * largest))


def _nonlinearities(
    layout: Layout, root: nn.Module, layer: int
) -> list[Callable[[Tensor], Tensor]]:
    """The nonlinearity an MLP module holds, or else the usual ones."""
    mlp = layout.component(root, f"blocks.{layer}.mlp")
    attributes = [getattr(unwrap(mlp), name, None) for name in _NONLINEARITIES] if mlp else []
    own: list[Callable[[Tensor], Tensor]] = [act for act in attributes if callable(act)]
    return own or [nn.functional.silu, nn.functional.gelu, nn.functional.relu]
