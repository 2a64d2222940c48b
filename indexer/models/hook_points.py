"""The hook points of MLP neurons: where they are captured."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from indexer.captured import Captured

HOOK_PRE, HOOK_POST, HOOK_BEFORE_LN = "mlp.hook_pre", "mlp.hook_post", "mlp.ln.hook_in"


@dataclass(frozen=True)
class Place:
    """One module at which activations of a layer are captured."""

    module: nn.Module
    side: str
    """`input` or `output` of the module."""
    half: int | None = None
    """Which half of the last axis the neurons are, 0 or 1 (a fused gate and up projection)."""
    parts: tuple[Place, Place] | None = None
    """Where a gated neuron's gate and linear part are, if its activation is their product."""

    def own(self, values: Tensor) -> Tensor:
        """This place's part of what its module takes or gives."""
        return values if self.half is None else values.chunk(2, dim=-1)[self.half]


@contextlib.contextmanager
def hooked(
    places: tuple[Place, ...],
    hand_over: Callable[[int, Captured], None],
    layers: range | None = None,
) -> Iterator[None]:
    """Call `hand_over(layer, captured)` whenever a layer's place is reached, of `layers` alone.

    A layer's parts come before its activations; they are held until then and no longer.
    """
    handles = []
    held: dict[tuple[int, str], Tensor] = {}

    def give(layer: int, values: Tensor) -> None:
        gate, linear = (held.pop((layer, name), None) for name in ("gate", "linear"))
        hand_over(layer, Captured(places[layer].own(values), gate, linear))

    def before(layer: int) -> Any:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            give(layer, args[0] if args else next(iter(kwargs.values())))

        return hook

    def after(layer: int) -> Any:
        def hook(_module: Any, _args: Any, output: Tensor) -> None:
            give(layer, output)

        return hook

    def hold(layer: int, name: str, part: Place) -> Any:
        def hook(_module: Any, _args: Any, output: Tensor) -> None:
            held[layer, name] = part.own(output)

        return hook

    try:
        for layer in layers if layers is not None else range(len(places)):
            place = places[layer]
            for name, part in zip(("gate", "linear"), place.parts or (), strict=False):
                handles.append(part.module.register_forward_hook(hold(layer, name, part)))
            if place.side == "input":
                handle = place.module.register_forward_pre_hook(before(layer), with_kwargs=True)
            else:
                handle = place.module.register_forward_hook(after(layer))
            handles.append(handle)
        yield
    finally:
        for handle in handles:
            handle.remove()


def unwrap(module: nn.Module) -> nn.Module:
    """The model's own module inside TransformerLens's wrappers, if it has any."""
    while isinstance(inner := getattr(module, "original_component", None), nn.Module):
        module = inner
    return module
