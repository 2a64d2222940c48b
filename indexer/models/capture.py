"""Activations captured while a model reads tokens: all of a model that the scan calls.

Hugging Face models run as plain transformers models without their unembedding, with a hook on the
modules TransformerLens names. TransformerLens's own models are stopped before their unembedding.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from indexer.captured import OnLayer
from indexer.errors import NeurariumError
from indexer.models.failures import out_of_memory
from indexer.models.finite import check_activations
from indexer.models.layout import Layout
from indexer.models.units import UnitSet, first_of, present_place


class _LastLayer(Exception):
    """Raised by our own hook to end a forward pass when nothing after it is needed."""


@dataclass(frozen=True, eq=False)
class Trunk:
    """A model without its unembedding."""

    run: Callable[..., Any]
    """Called with token ids and an attention mask, both [batch, pos]."""
    device: torch.device
    label: str
    """What the user calls the model."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def capture(
        self,
        units: UnitSet,
        tokens: Int[Tensor, "batch pos"],
        attention_mask: Bool[Tensor, "batch pos"] | Int[Tensor, "batch pos"],
        on_layer: OnLayer,
        layers: range | None = None,
    ) -> None:
        """Run one forward pass and hand each layer's activations to `on_layer` as they happen.

        `tokens` are right-padded; `attention_mask` is 0 on padding, where the activations mean
        nothing. `on_layer(layer, captured)` is called once per layer, in order, with activations
        [batch, pos, units] in the model's dtype, on its device, in inference mode: reduce or copy
        them, do not keep them beyond the pass. With `layers`, only those are handed over, and
        nothing after the last of them is computed. Nothing in this method waits for the device.
        Calls from several threads take turns. Raises `NeurariumError` when memory runs out.
        """
        wanted = range(len(units.places)) if layers is None else layers
        present = [layer for layer in wanted if units.places[layer] is not None]
        last = present[-1] if layers is not None and present else None

        def hand_over(layer: int, values: Tensor, parts: tuple[Tensor, ...]) -> None:
            on_layer(layer, units.captured(layer, values, parts))
            if layer == last:
                raise _LastLayer

        self.run_hooked(
            tokens, attention_mask, _hooked(units, tuple(tokens.shape), hand_over, present)
        )

    def run_hooked(
        self,
        tokens: Int[Tensor, "batch pos"],
        attention_mask: Bool[Tensor, "batch pos"] | Int[Tensor, "batch pos"],
        hooks: contextlib.AbstractContextManager[None],
    ) -> None:
        """Run one forward pass with hooks that are there as long as `hooks` is open.

        Calls from several threads take turns. Raises `NeurariumError` when memory runs out.
        """
        with self._lock, torch.inference_mode(), hooks:
            try:
                self.run(
                    tokens.to(self.device, torch.long),
                    attention_mask=attention_mask.to(self.device, torch.long),
                )
            except _LastLayer:
                pass
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                batch, pos = tokens.shape
                raise NeurariumError(
                    f"There is not enough memory on {self.device} for {batch} × {pos} tokens of "
                    f"{self.label!r}: lower --batch-tokens."
                ) from error

    def widths(
        self, units: UnitSet, look: Callable[[int, Any], None] = lambda *_: None
    ) -> tuple[int, ...]:
        """Units of each layer, counted on two tokens; `look` is called as `on_layer` is.

        Raises `NeurariumError` for a model whose layers do not run once each, or whose activations
        are not finite.
        """
        widths: list[list[int]] = [[] for _ in units.places]

        def count(layer: int, captured: Any) -> None:
            check_activations(captured.activations, layer)
            widths[layer].append(captured.activations.shape[-1])
            look(layer, captured)

        tokens = torch.zeros((1, 2), dtype=torch.long)
        self.capture(units, tokens, torch.ones_like(tokens), count)
        for layer, runs in enumerate(widths):
            if units.places[layer] is not None and len(runs) != 1:
                raise NeurariumError(
                    f"Layer {layer} of {self.label!r} runs {len(runs)} times in one forward pass, "
                    "not once: such a model cannot be indexed."
                )
        return tuple(runs[0] if runs else 0 for runs in widths)


def capturing(
    units: UnitSet, shape: tuple[int, ...], on_layer: OnLayer
) -> contextlib.AbstractContextManager[None]:
    """Hand each layer's activations to `on_layer` during any forward pass over tokens of this
    shape, (batch, pos), as `Trunk.capture` does."""
    present = [layer for layer, place in enumerate(units.places) if place is not None]

    def hand_over(layer: int, values: Tensor, parts: tuple[Tensor, ...]) -> None:
        on_layer(layer, units.captured(layer, values, parts))

    return _hooked(units, shape, hand_over, present)


@contextlib.contextmanager
def _hooked(
    units: UnitSet,
    shape: tuple[int, ...],
    hand_over: Callable[[int, Tensor, tuple[Tensor, ...]], None],
    layers: Sequence[int],
) -> Iterator[None]:
    """Call `hand_over(layer, values, parts)` whenever a layer's place is reached.

    `shape` is (batch, pos): some modules (OPT's) flatten it. A layer's parts come before its
    values; they are held until then and no longer. Parts whose module was not called are left out.
    """
    handles = []
    held: dict[tuple[int, int], Tensor] = {}

    def give(layer: int, values: Tensor) -> None:
        place = present_place(units, layer)
        parts = [held.pop((layer, number), None) for number in range(len(place.parts))]
        known = tuple(part for part in parts if part is not None)
        hand_over(layer, place.own(values.reshape(*shape, values.shape[-1])), known)

    def before(layer: int) -> Any:
        def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            give(layer, args[0] if args else next(iter(kwargs.values())))

        return hook

    def after(layer: int) -> Any:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            give(layer, first_of(output))

        return hook

    def hold(layer: int, number: int) -> Any:
        part = present_place(units, layer).parts[number]

        def hook(_module: Any, _args: Any, output: Tensor) -> None:
            held[layer, number] = part.own(output.reshape(*shape, output.shape[-1]))

        return hook

    try:
        for layer in layers:
            place = present_place(units, layer)
            for number, part in enumerate(place.parts):
                handles.append(part.module.register_forward_hook(hold(layer, number)))
            if place.side == "input":
                handle = place.module.register_forward_pre_hook(before(layer), with_kwargs=True)
            else:
                handle = place.module.register_forward_hook(after(layer))
            handles.append(handle)
        yield
    finally:
        for handle in handles:
            handle.remove()


def without_unembedding(model: Any) -> Callable[..., Any]:
    """A call of a transformers model's base model: no logits are computed, nothing is cached."""
    base = model.base_model

    def run(tokens: Tensor, attention_mask: Tensor) -> None:
        base(input_ids=tokens, attention_mask=attention_mask, use_cache=False)

    return run


def until_final_norm(model: nn.Module, layout: Layout) -> Callable[..., Any]:
    """A call of a native model, which has no base model, that ends before its final norm."""
    norm = layout.final_norm(model)

    def stop(*_: Any) -> None:
        raise _LastLayer

    def run(tokens: Tensor, attention_mask: Tensor) -> None:
        handle = norm.register_forward_pre_hook(stop) if norm is not None else None
        try:
            model(input_ids=tokens, attention_mask=attention_mask)
        finally:
            if handle is not None:
                handle.remove()

    return run
