"""Reads from one short forward pass where a model's heads have their queries, keys and values, and
how they turn them by their positions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from indexer.errors import NeurariumError
from indexer.models.capture import Trunk
from indexer.models.layout import Layout
from indexer.models.modules import first_tensor
from indexer.models.patterns import pattern_of
from indexer.models.qkv import SPLITS, Projection, find_projections, repeated
from indexer.models.rotary import STILL, Rotation, candidates, find_rotation
from indexer.models.units import Place, Unknown

_PROBES = 6
"""Tokens in the forward pass that shows where the values are."""


def read_heads(
    trunk: Trunk,
    layout: Layout,
    root: nn.Module,
    attentions: list[nn.Module],
    places: list[Place],
) -> list[tuple[Projection, int, Rotation | Unknown]]:
    """Each layer's projections, number of heads, and how it turns queries and keys by their
    positions; `attentions` and `places` are its attention module and where heads' outputs are.
    Raises `NeurariumError`."""
    readings, turns = [], candidates(root)
    seen = _probe(trunk, layout, root, attentions, [place.module for place in places])
    for layer, (pattern, outputs, computed) in enumerate(seen):
        projection = find_projections(pattern, outputs, computed)
        if projection is None:
            raise NeurariumError(
                f"The values of the heads in layer {layer} of {layout.label!r} "
                f"({layout.architecture}) cannot be found: this architecture's heads cannot be "
                "indexed yet."
            )
        rotation = _rotation(pattern, outputs, computed, projection, turns)
        readings.append((projection, pattern.shape[1], rotation))
    return readings


_Seen = tuple[Tensor, Tensor, dict[str, tuple[nn.Module, Tensor]]]


def _probe(
    trunk: Trunk,
    layout: Layout,
    root: nn.Module,
    attentions: list[nn.Module],
    outs: list[nn.Module],
) -> list[_Seen]:
    """Each layer's pattern, output projection's input, and the outputs of the modules that may
    compute queries, keys and values, by TransformerLens's names."""
    tokens = torch.arange(1, _PROBES + 1)[None]
    shape = tuple(tokens.shape)
    patterns: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}
    computed: list[dict[str, tuple[nn.Module, Tensor]]] = [{} for _ in attentions]

    @contextlib.contextmanager
    def hooks() -> Iterator[None]:
        handles = []

        def on_attention(layer: int) -> Any:
            def hook(_m: Any, _args: Any, output: Any) -> None:
                if layer in patterns:
                    raise NeurariumError(
                        f"Layer {layer} of {layout.label!r} runs more than once in one forward "
                        "pass: such a model cannot be indexed."
                    )
                patterns[layer] = pattern_of(output, shape, layout).clone()

            return hook

        def on_out(layer: int) -> Any:
            def hook(_m: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                x = first_tensor(args, kwargs)
                if x is not None:
                    outputs[layer] = x.reshape(*shape, x.shape[-1]).clone()

            return hook

        def on_part(layer: int, name: str) -> Any:
            def hook(module: nn.Module, _args: Any, output: Tensor) -> None:
                flat = output.reshape(*shape, output.shape[-1]).clone()
                computed[layer][name] = (module, flat)

            return hook

        try:
            for layer, attention in enumerate(attentions):
                handles.append(attention.register_forward_hook(on_attention(layer)))
                handles.append(
                    outs[layer].register_forward_pre_hook(on_out(layer), with_kwargs=True)
                )
                for name in ("q", "k", "v", "qkv"):
                    part = layout.component(root, f"blocks.{layer}.attn.{name}")
                    if part is not None:
                        handles.append(part.register_forward_hook(on_part(layer, name)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    trunk.run_hooked(tokens, torch.ones_like(tokens), hooks())
    missing = [
        layer for layer in range(len(attentions)) if not {layer} <= patterns.keys() & outputs.keys()
    ]
    if missing:
        raise NeurariumError(
            f"Layer {missing[0]} of {layout.label!r} ({layout.architecture}) computes no attention "
            "pattern that can be read."
        )
    return [(patterns[layer], outputs[layer], computed[layer]) for layer in range(len(attentions))]


def _rotation(
    pattern: Tensor,
    outputs: Tensor,
    computed: dict[str, tuple[nn.Module, Tensor]],
    projection: Projection,
    turns: list[Rotation],
) -> Rotation | Unknown:
    """How a layer rotates its queries and keys. `pattern` [batch, head, query, key], `outputs`
    [batch, pos, head · d_head] and the outputs of modules `computed` are from `_probe`."""
    if not turns:
        return STILL
    heads, split = pattern.shape[1], SPLITS[projection.split]
    d_head = outputs.shape[-1] // heads
    if projection.split == "alone":
        if not {"q", "k"} <= computed.keys():
            return Unknown("The modules that compute queries and keys are not known.")
        # A module of its own has one part, which `alone` calls values.
        parts = [split(computed[name][1], heads, d_head)[2] for name in "qk"]
    else:
        queries, keys, _ = split(computed["qkv"][1], heads, d_head)
        assert queries is not None  # fused with the values
        assert keys is not None
        parts = [queries, keys]
    queries, keys = (repeated(part, heads) for part in parts)
    return find_rotation(pattern, queries, keys, turns)
