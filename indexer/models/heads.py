"""Attention heads as a set of units: their patterns, values and outputs while a model reads tokens.

Finding the heads switches a Hugging Face model to attention that returns its patterns (`patterns`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn

from indexer.captured import Captured, CapturedHeads, OnHeads
from indexer.errors import NeurariumError
from indexer.models import patterns
from indexer.models.asked import Asked
from indexer.models.capture import Trunk
from indexer.models.head_reading import read_heads
from indexer.models.head_weights import HeadWeights, head_weights
from indexer.models.layout import Layout
from indexer.models.modules import first_tensor, unwrap
from indexer.models.names import HOOK_PATTERN
from indexer.models.norms import ScaledNorm, scaled_norm
from indexer.models.qkv import SPLITS, Projection, by_head
from indexer.models.rotary import Rotation
from indexer.models.units import Place, Reader, Unknown, never_large
from indexer.store.units import Units

HEADS = Asked(HOOK_PATTERN)
"""How a model's attention heads are asked for."""
_READS = "A head reads with its query, key and value matrices, not with one direction."


def attention_problem(layout: Layout) -> str | None:
    """Why a model has no attention heads that can be indexed; None if it has."""
    blocks = layout.adapter.get_component_mapping().get("blocks")
    attention = None if blocks is None else blocks.submodules.get("attn")
    if attention is not None and "o" in getattr(attention, "submodules", {}):
        return None
    return (
        f"{layout.label!r} ({layout.architecture}) has no attention in each layer that "
        "TransformerLens knows: choose a transformer of a known architecture, such as GPT-2 or "
        "Llama."
    )


def takes(asked: Asked) -> bool:
    """Whether attention heads are asked for."""
    return asked == HEADS


def choose_pattern(layout: Layout, asked: Asked) -> Asked:
    """Heads have one hook point."""
    return HEADS


@dataclass(frozen=True)
class AttentionHeads:
    """A model's attention heads: a `UnitSet`, whose activation at a position is the length of what
    the head adds to the residual stream there, before any norm after the attention."""

    layout: Layout
    root: nn.Module
    trunk: Trunk
    places: tuple[Place, ...]
    """The inputs of the output projections: all heads' outputs side by side."""
    attentions: tuple[nn.Module, ...]
    projections: tuple[Projection, ...]
    """Where each layer's values are computed."""
    norms: tuple[ScaledNorm | None, ...]
    """Each layer's norm after the attention (Gemma 2 and 3, OLMo 2)."""
    widths: tuple[int, ...]
    """Heads of each layer."""
    rotations: tuple[Rotation | Unknown, ...]
    """How each layer turns its queries and keys by their positions."""
    own_pass: bool
    """Whether the model computes attention in another way for its heads than for other units, so
    that they cannot share a forward pass."""
    _weights: dict[int, HeadWeights] = field(default_factory=dict, repr=False)

    name: ClassVar[str] = "heads"
    noun: ClassVar[str] = "head"
    hook_point: ClassVar[str] = HOOK_PATTERN
    is_default: ClassVar[bool] = False
    has_parts: ClassVar[bool] = False
    signed: ClassVar[bool] = False
    sparse: ClassVar[bool] = False
    remark: ClassVar[str] = ""
    has_pairs: ClassVar[bool] = True
    identity: ClassVar[str] = ""

    @property
    def described(self) -> Units:
        """Lengths are never negative."""
        return Units(
            noun=self.noun,
            dead_by_magnitude=True,
            no_writes=self.writes(0).reason,
            no_reads=_READS,
            no_links="Heads are linked by composition, which their own pages show.",
        )

    @property
    def asked(self) -> Asked:
        """The hook point is all that finds them."""
        return HEADS

    def weights(self, layer: int) -> HeadWeights:
        """One layer's matrices by head. Raises `NeurariumError` for quantised weights."""
        if layer not in self._weights:
            out = unwrap(self.places[layer].module)
            self._weights[layer] = head_weights(
                self.projections[layer], out, self.widths[layer], self.layout.d_model
            )
        return self._weights[layer]

    @property
    def residual_multiplier(self) -> float:
        """The constant that multiplies what attention adds to the residual stream (Granite)."""
        config = getattr(self.root, "config", None)
        return float(getattr(config, "residual_multiplier", None) or 1.0)

    def capture_heads(
        self,
        tokens: Int[Tensor, "batch pos"],
        attention_mask: Bool[Tensor, "batch pos"] | Int[Tensor, "batch pos"],
        on_heads: OnHeads,
        extra: contextlib.AbstractContextManager[None] | None = None,
    ) -> None:
        """Run one forward pass and hand each layer's heads to `on_heads` as they happen.

        `extra` are hooks of the caller, open during the same pass. Otherwise as `Trunk.capture`.
        """
        with extra or contextlib.nullcontext():
            hooks = self.hooked(tuple(tokens.shape), on_heads)
            self.trunk.run_hooked(tokens, attention_mask, hooks)

    @contextlib.contextmanager
    def hooked(self, shape: tuple[int, ...], on_heads: OnHeads) -> Iterator[None]:
        """Hand each layer's heads to `on_heads` during any forward pass over tokens of this shape,
        (batch, pos)."""
        handles = []
        held: dict[str, Tensor] = {}  # of the layer that runs now

        def give(layer: int, scale: Tensor | None) -> None:
            heads, weights = self.widths[layer], self.weights(layer)
            split = SPLITS[self.projections[layer].split]
            values = split(held.pop("values"), heads, weights.d_head)[2]
            outputs = held.pop("outputs").view(*shape, heads, weights.d_head)
            norms = weights.value_norms(values)
            on_heads(layer, CapturedHeads(held.pop("pattern"), norms, outputs, scale))

        def on_values(_m: Any, _args: Any, output: Tensor) -> None:
            held["values"] = output.reshape(*shape, output.shape[-1])

        def on_outputs(_m: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            outputs = first_tensor(args, kwargs)
            assert outputs is not None
            held["outputs"] = outputs.reshape(*shape, outputs.shape[-1])

        def on_attention(layer: int) -> Any:
            def hook(_m: Any, _args: Any, output: Any) -> None:
                held["pattern"] = patterns.pattern_of(output, shape, self.layout)
                if self.norms[layer] is None:
                    give(layer, None)

            return hook

        def on_norm(layer: int, norm: ScaledNorm) -> Any:
            def hook(_m: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                x = first_tensor(args, kwargs)
                assert x is not None
                give(layer, norm.scale(x.reshape(*shape, x.shape[-1])))

            return hook

        try:
            for layer, place in enumerate(self.places):
                projection, norm = self.projections[layer], self.norms[layer]
                handles += [
                    projection.value_module.register_forward_hook(on_values),
                    place.module.register_forward_pre_hook(on_outputs, with_kwargs=True),
                    self.attentions[layer].register_forward_hook(on_attention(layer)),
                ]
                if norm is not None:
                    hook = on_norm(layer, norm)
                    handles.append(norm.module.register_forward_pre_hook(hook, with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def captured(
        self,
        layer: int,
        values: Float[Tensor, "batch pos n"],
        parts: tuple[Float[Tensor, "batch pos _"], ...],
    ) -> Captured:
        """The length of each head's output times its part of W_O."""
        weights = self.weights(layer)
        outputs = by_head(values, weights.d_head)
        return Captured(weights.output_norms(outputs))

    def between(self, layer: int, values: Float[Tensor, "batch pos n"], share: float) -> None:
        """None: activations are not compared with a threshold."""

    def set_unit(
        self, layer: int, values: Float[Tensor, "*batch n"], unit: int, value: float
    ) -> None:
        """Scale a head's output to another length; an output of length 0 stays."""
        weights = self.weights(layer)
        outputs = by_head(values, weights.d_head)
        length = weights.output_norms(outputs)[..., unit, None].to(values.dtype)
        outputs[..., unit, :] *= torch.where(length > 0, value / length, 1.0)

    def target(self, layer: int) -> None:
        """None: units are set where they are read."""

    def writes(self, layer: int) -> Unknown:
        """What a head writes depends on what it reads."""
        return Unknown("A head writes no fixed vector: it moves what it attends to.")

    def encoders(self, layer: int) -> None:
        """None: units are compared by what they write."""

    def thresholds(self, layer: int) -> None:
        """None: no sum has to exceed a threshold."""

    def names(self, layer: int) -> tuple[str, ...]:
        """None: units have numbers only."""
        return ()

    def readers(self, token_ids: Int[Tensor, "1 pos"]) -> tuple[Reader | Unknown, ...]:
        """A head reads with three matrices, not with a direction."""
        return tuple(Unknown(_READS) for _ in self.places)

    def dead(
        self, maximum: Float32[np.ndarray, " n"], minimum: Float32[np.ndarray, " n"]
    ) -> Bool[np.ndarray, " n"]:
        """Heads that add nothing."""
        return never_large(maximum, minimum)


def find_heads(trunk: Trunk, layout: Layout, root: nn.Module, asked: Asked) -> AttentionHeads:
    """A model's heads. One short forward pass finds where each layer's values are: attention times
    values must be the output projection's input. Raises `NeurariumError` where it is not."""
    attentions, places = [], []
    for layer in range(layout.n_layers):
        attention = layout.component(root, f"blocks.{layer}.attn")
        out = layout.component(root, f"blocks.{layer}.attn.o")
        if attention is None or out is None:
            raise NeurariumError(
                f"Layer {layer} of {layout.label!r} ({layout.architecture}) has no attention: only "
                "models with attention in every layer have pages of heads."
            )
        attentions.append(attention)
        places.append(Place(out, "input"))
    norms = [
        None if norm is None else scaled_norm(norm, layout.d_model, trunk.device)
        for norm in (
            layout.component(root, f"blocks.{layer}.ln1_post") for layer in range(layout.n_layers)
        )
    ]
    usual, problem = patterns.implementation(root), None
    for way in patterns.ways(root, attentions):
        patterns.use(root, way)
        try:
            readings = read_heads(trunk, layout, root, attentions, places)
        except NeurariumError as error:
            problem = problem or error
            continue
        heads = AttentionHeads(
            layout=layout,
            root=root,
            trunk=trunk,
            places=tuple(places),
            attentions=tuple(attentions),
            projections=tuple(projection for projection, _, _ in readings),
            norms=tuple(norms),
            widths=tuple(width for _, width, _ in readings),
            rotations=tuple(rotation for _, _, rotation in readings),
            own_pass=way == patterns.SLOW != usual,
        )
        for layer in range(layout.n_layers):
            heads.weights(layer)  # before there are hooks: a matrix may have to be measured
        return heads
    assert problem is not None  # there is at least one way
    raise problem
