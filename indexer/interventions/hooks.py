"""Hooks on a model's modules that are there for the length of a `with` block."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from indexer.models.modules import first_tensor
from indexer.models.units import Place, first_of


@contextlib.contextmanager
def removed(handle: Any) -> Iterator[None]:
    """Remove a hook at the end."""
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def last_position_only(head: nn.Module) -> Iterator[None]:
    """Unembed the last position alone: the logits of all positions would take most memory."""

    def cut(_: Any, args: tuple[Any, ...]) -> Any:
        return (args[0][:, -1:], *args[1:])

    with removed(head.register_forward_pre_hook(cut)):
        yield


@contextlib.contextmanager
def looking(place: Place, look: Callable[[Tensor], None]) -> Iterator[None]:
    """Call `look` with the tensor [..., n] in a module's input or output, at each forward pass."""

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = first_tensor(args, kwargs)
        assert given is not None
        look(given)

    def after(_module: Any, _args: Any, output: Any) -> None:
        look(first_of(output))

    if place.side == "input":
        handle = place.module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = place.module.register_forward_hook(after)
    with removed(handle):
        yield


def replaced(
    place: Place, values: Tensor, shape: tuple[int, ...], change: Callable[[Tensor], Tensor]
) -> Tensor:
    """A copy of a module's input or output over tokens of this shape, (batch, pos), in which
    `change` has replaced the part that is meant, [batch, pos, n]."""
    values = values.clone(memory_format=torch.contiguous_format)
    whole = values.view(*shape, values.shape[-1])
    own = place.own(whole)
    own.copy_(change(own))
    place.put(whole, own)
    return values


@contextlib.contextmanager
def changing(place: Place, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace a module's input or output [..., d] by `change(values)`, a new tensor of the same
    shape. Where the tensor is also used beside the module, it is changed there too."""
    moved: list[Tensor] = []

    def changed(values: Tensor) -> Tensor:
        new = change(values)
        if place.beside is not None:
            moved.append(new - values)
        return new

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (changed(args[0]), *args[1:]), kwargs
        name, values = next(iter(kwargs.items()))
        return args, kwargs | {name: changed(values)}

    def after(_module: Any, _args: Any, output: Any) -> Any:
        return _with_first(output, changed)

    def carry(_module: Any, _args: Any, output: Any) -> Any:
        return _with_first(output, lambda values: values + moved.pop().reshape(values.shape))

    with contextlib.ExitStack() as stack:
        if place.side == "input":
            handle = place.module.register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = place.module.register_forward_hook(after)
        stack.enter_context(removed(handle))
        if place.beside is not None:
            stack.enter_context(removed(place.beside.register_forward_hook(carry)))
        yield


def _with_first(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A module's output with its first tensor changed."""
    if isinstance(output, tuple | list):
        return type(output)([change(output[0]), *output[1:]])
    return change(output)
